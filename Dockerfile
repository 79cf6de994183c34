# One image for every role: `docker run rollcall up|gateway|projector|dispatcher`.
FROM rust:1.95-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make build && target/tools/nats-server --version

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/rollcall --create-home rollcall
COPY --from=build /src/target/release/rollcall /usr/local/bin/rollcall
COPY --from=build /src/target/tools/nats-server /usr/local/bin/nats-server
USER rollcall
VOLUME /var/lib/rollcall
ENV ROLLCALL_DATA_DIR=/var/lib/rollcall
EXPOSE 7643
ENTRYPOINT ["rollcall"]
CMD ["up"]
