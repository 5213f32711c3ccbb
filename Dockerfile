# Two images of the service with the shipped model, which is compiled during the build.
# docker build -t bone-fracture-classifier . && docker run --rm -p 5010:5010 --read-only --tmpfs /tmp --memory 2g \
#   bone-fracture-classifier
# Another model: mount it over this one, or name it in BONE_MODEL_PATH. It is compiled at each start unless BONE_CACHE_DIR
# is a volume that user 10001 can write to. The target slim has no TensorFlow, serves this model only, and is an eighth of
# the size; given the folder of a compiled network, its build installs no TensorFlow either:
# docker build --target slim --build-context compiled=FOLDER -t bone-fracture-classifier:slim .
FROM python:3.12-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
WORKDIR /build
COPY requirements.txt ./
RUN /venv/bin/python -m pip install --require-hashes --requirement requirements.txt

FROM python:3.12-slim-bookworm AS packages-slim
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
WORKDIR /app
COPY *.py bone_fracture_classifier.h5 LICENSE MODEL_CARD.md ./
COPY imaging ./imaging
COPY inference ./inference
COPY web ./web
COPY templates ./templates
COPY static ./static
RUN python -m compileall -q -j 0 /app
USER 10001:10001
EXPOSE 5010
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + (os.environ.get('BONE_PORT') or '5010') + '/health', timeout=2)"]
ENTRYPOINT ["python", "app.py"]

FROM service AS compiler
COPY --from=packages /venv /venv
RUN BONE_ENGINE=compiled BONE_CACHE_DIR=/tmp/compiled python app.py check bone_fracture_classifier.h5

FROM scratch AS compiled
COPY --from=compiler /tmp/compiled /

FROM service AS slim
COPY --from=packages-slim /venv /venv
COPY --from=compiled / ./compiled

FROM service AS full
COPY --from=packages /venv /venv
COPY --from=compiled / ./compiled
