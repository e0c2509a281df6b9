import { get } from 'node:http';

// The health check of the image: exit code 0 when the service answers. It asks whether the process is alive and not
// whether it is ready, because orchestrators restart what is unhealthy, and that mends no database.
const { HOST = '', PORT = '8000' } = process.env;
const everyAddress = ['', '0.0.0.0', '::'];
// Below the three seconds of the image, so that it ends by itself.
const answerWaitMs = 2_500;

const request = get({
  host: everyAddress.includes(HOST) ? 'localhost' : HOST,
  port: PORT,
  path: '/health/live',
  signal: AbortSignal.timeout(answerWaitMs),
});
request.on('response', ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1));
request.on('error', ({ message }) => {
  console.error(message);
  process.exit(1);
});
