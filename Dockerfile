# The service with the model that it ships. Another model: mount it and name it in BONE_MODEL_PATH, or over this one.
# docker build -t bone-fracture-classifier . && docker run --rm -p 5010:5010 --read-only --tmpfs /tmp --memory 2g \
#   bone-fracture-classifier
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
WORKDIR /app
COPY requirements.txt ./
RUN /venv/bin/python -m pip install --require-hashes --requirement requirements.txt && rm requirements.txt
COPY *.py ./
RUN /venv/bin/python -m compileall -q -j 0 /app

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="Bone Fracture Classifier API" \
      org.opencontainers.image.description="Classifies radiographs: fisura, fractura or neither. Research and triage aid, no medical device." \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
COPY templates ./templates
COPY static ./static
COPY LICENSE MODEL_CARD.md bone_fracture_classifier.h5 ./
USER 10001:10001
EXPOSE 5010
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + (os.environ.get('BONE_PORT') or '5010') + '/health', timeout=2)"]
ENTRYPOINT ["python", "app.py"]
