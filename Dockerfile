# Two images of the service with the shipped model, which is compiled during the build.
# docker build -t bone-fracture-classifier . && docker run --rm -p 5010:5010 --read-only --tmpfs /tmp --memory 2g \
#   bone-fracture-classifier
# Another model: mount it over this one, or name it in BONE_MODEL_PATH. It is compiled at each start unless BONE_CACHE_DIR
# is a volume that user 10001 can write to. Without TensorFlow, for this model only, an eighth of the size:
# docker build --target slim -t bone-fracture-classifier:slim .
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
WORKDIR /app
COPY requirements.txt ./
RUN /venv/bin/python -m pip install --require-hashes --requirement requirements.txt && rm requirements.txt
COPY *.py bone_fracture_classifier.h5 ./
COPY imaging ./imaging
COPY inference ./inference
COPY web ./web
RUN /venv/bin/python -m compileall -q -j 0 /app \
 && BONE_ENGINE=compiled BONE_CACHE_DIR=/app/compiled /venv/bin/python app.py check bone_fracture_classifier.h5

FROM python:3.12-slim-bookworm AS build-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
WORKDIR /build
COPY requirements/slim.txt ./
RUN /venv/bin/python -m pip install --require-hashes --requirement slim.txt

FROM python:3.12-slim-bookworm AS service
LABEL org.opencontainers.image.title="Bone Fracture Classifier API" \
      org.opencontainers.image.description="Classifies radiographs: fisura, fractura or neither. Research and triage aid, not a medical device." \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp BONE_CACHE_DIR=/app/compiled
COPY --from=build /app /app
WORKDIR /app
COPY templates ./templates
COPY static ./static
COPY LICENSE MODEL_CARD.md ./
USER 10001:10001
EXPOSE 5010
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + (os.environ.get('BONE_PORT') or '5010') + '/health', timeout=2)"]
ENTRYPOINT ["python", "app.py"]

FROM service AS slim
COPY --from=build-slim /venv /venv

FROM service AS full
COPY --from=build /venv /venv
