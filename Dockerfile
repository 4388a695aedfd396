# To run make demo and make test of README: docker build -t headcount . && docker run --rm headcount make demo
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /headcount
COPY . .
RUN make .venv/.installed
ENV PATH=/headcount/.venv/bin:$PATH
CMD ["make", "test"]
