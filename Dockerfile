# One image for CPU and CUDA; its build has not been tried (docs/gpu_and_cluster.md has the commands).
FROM python:3.11-slim

# Empty: the usual build of torch, with CUDA's libraries. Or the index of CPU builds, for a smaller image.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 A3D_CACHE=/work/.cache

RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY . /source
RUN pip install /source && rm -r /source

RUN useradd --create-home a3d && mkdir /work && chown a3d /work
USER a3d
WORKDIR /work
ENTRYPOINT ["a3d"]
CMD ["--help"]
