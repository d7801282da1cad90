# Thin: every target sets up what it needs (scripts/setup.sh) and hands over to CMake's presets.
#   make            build/release/tailor
#   make chat       that, and a chat: MODEL=path.gguf for your own, ARGS='--temp 0' for options
#   make test       everything CI runs     make bench  speed of MODEL     make install  PREFIX=/usr/local
#   make asan | tsan | fuzz | check | soak | format | clean
MODEL ?= models/demo.gguf
ARGS ?=
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

.PHONY: all chat bench test asan tsan fuzz check soak format clean install
all: build/release/tailor
	@:

# Ninja knows what to rebuild; the list here (folders too: a file may go) only spares asking it.
folders := core backends backends/cpu backends/cuda backends/vulkan shaders cli tui
build/release/tailor: build/release/build.ninja $(wildcard $(folders) $(folders:=/*.*) CMake* cmake/* VERSION)
	@cmake --build build/release --target tailor -- $$(test -t 1 || echo --quiet)
	@touch $@

chat: all
	@build/release/tailor chat -m $(MODEL) $(ARGS)

bench: all
	@build/release/tailor bench -m $(MODEL) $(ARGS)

install: all
	@cmake --install build/release --prefix $(PREFIX)

test: build/setup-test.done
	@scripts/test.sh

asan tsan: build/setup-test.done
	@scripts/test.sh $@

fuzz: build/setup-test.done
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/test.sh fuzz

check:
	@scripts/check.sh

soak: build/setup-test.done
	@scripts/soak.sh $(MINUTES)

format:
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

clean:
	@rm -rf build

# Set-up is looked at once, and again when what it looks for changes.
build/setup-%.done: scripts/setup.sh
	@scripts/setup.sh $*
	@mkdir -p build && touch $@

build/release/build.ninja: build/setup-run.done
	@cmake --preset release --log-level=NOTICE >/dev/null
	@touch $@
