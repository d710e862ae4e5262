# docker build -t trpo .                                      builds; the image holds the tests too
# docker run --rm -v "$PWD/outputs:/trpo/outputs" trpo        trains the cart-pole
# docker run --rm trpo ./scripts/test                         runs the tests
FROM python:3.11-slim

# git: the commit in run.json; EGL: films of MuJoCo tasks without a screen
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /trpo
COPY . .
RUN ./scripts/setup test

ENTRYPOINT []
CMD ["./scripts/train"]
