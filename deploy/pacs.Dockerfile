# The node of pacs/, without TensorFlow. Built from the project's root: docker build -f deploy/pacs.Dockerfile -t bone-pacs .
FROM python:3.12-slim-bookworm
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /app
COPY requirements/slim.txt requirements/pacs.txt ./requirements/
RUN python -m pip install --require-hashes --requirement requirements/pacs.txt \
 && install --directory --mode 0700 --owner 10001 --group 10001 /spool
COPY *.py ./
COPY imaging ./imaging
COPY inference ./inference
COPY pacs ./pacs
COPY LICENSE ./
ENV BONE_PACS_SPOOL=/spool BONE_PACS_MONITOR_HOST=0.0.0.0
USER 10001:10001
VOLUME /spool
EXPOSE 11112 5011
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + (os.environ.get('BONE_PACS_MONITOR_PORT') or '5011') + '/health', timeout=2)"]
ENTRYPOINT ["python", "-m", "pacs", "serve"]
