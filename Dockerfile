# The program ggml-nvfp4 in a small image (docs/release.md, "Container"). With images of CUDA as BUILD and RUNTIME, of which the
# second has cuBLAS, the program computes on devices, too.
ARG BUILD=debian:12
ARG RUNTIME=debian:12-slim

FROM ${BUILD} AS build
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates git make
COPY . /src
RUN make -C /src dist BUILD=/build ARCHITECTURES="$(uname -m)" CI=true
RUN tar xf /build-dist/results/*.tar.gz -C /opt && mv /opt/ggml-nvfp4-* /opt/ggml-nvfp4

FROM ${RUNTIME}
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/ggml-nvfp4 /opt/ggml-nvfp4
ENV PATH=/opt/ggml-nvfp4/bin:$PATH
WORKDIR /data
ENTRYPOINT ["ggml-nvfp4"]
