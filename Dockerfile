FROM python:3.11-slim

RUN useradd --create-home --uid 1000 leveret \
    && install --directory --owner leveret --group leveret /app /app/output
WORKDIR /app

COPY --chown=leveret pyproject.toml README.md LICENSE /src/
COPY --chown=leveret leveret /src/leveret
COPY --chown=leveret topology /src/topology
COPY --chown=leveret producers /src/producers
COPY --chown=leveret consumers /src/consumers
COPY --chown=leveret data /src/data
RUN pip install --no-cache-dir /src && rm -r /src

USER leveret
ENV PYTHONUNBUFFERED=1
CMD ["leveret", "run", "words"]
