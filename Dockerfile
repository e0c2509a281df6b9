# The image of Latchkey. `docker build -t latchkey .` makes it; docs/deploying.md says how it is run, and
# test/image.test.ts carries out what stands here, step by step, without a container engine.

# The version of Node.js that package.json pins for development, with glibc, for which the native modules are built.
FROM node:26.10.0-trixie-slim@sha256:ec7758ee051e457b468b32bde57b0879010b325bb9862718e9615225ce4aaae1 AS base
WORKDIR /app
ENV NODE_ENV=production
ENV DATA_DIR=/data
# For `latchkey doctor` and the other commands.
ENV PATH=/app/node_modules/.bin:$PATH

FROM base AS build
COPY package.json package-lock.json .npmrc ./
# No dependency needs its install script, and none of them gets to run one.
RUN npm ci --omit=dev --ignore-scripts
COPY LICENSE ./
COPY src ./src
RUN ln -s ../../src/cli/start.js node_modules/.bin/latchkey
RUN mkdir -p .compiled /data && chown 1000:1000 .compiled /data && chmod 700 /data
# Keeps what Node.js compiled, under the user of the image, because there is a cache for each. This command loads nearly
# all that a start loads.
USER 1000:1000
RUN NODE_COMPILE_CACHE=/app/.compiled node src/cli/start.js openapi > /dev/null && chmod -R a+rX .compiled

FROM base
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Latchkey" \
      org.opencontainers.image.description="Self-hosted authentication behind one REST API" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# All of it belongs to root, so that the service cannot change its own code; only the volume is its own.
COPY --from=build /app /app
COPY --from=build --chown=1000:1000 /data /data
VOLUME /data
# A user other than that of the image has to do without, and starts a little later.
ENV NODE_COMPILE_CACHE=/app/.compiled
# By number, so that an orchestrator can see that it is not root.
USER 1000:1000
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 CMD ["node", "src/healthcheck.ts"]
# In place of the entry point of the base image, which is a shell script. Node.js is the first process: Latchkey takes
# its signals itself, and starts no processes that would have to be reaped.
ENTRYPOINT []
CMD ["node", "src/start.js"]
