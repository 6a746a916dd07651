# The thin front: every target is one command that can also be run by hand.
# `make` builds build/release/ounce and fetches nothing; `make demo` and `make check` install what is missing first.
PRESET ?= release
PREFIX ?= /usr/local

.PHONY: all demo check check-full bench install format clean
all: build/$(PRESET)/build.ninja
	@cmake --build build/$(PRESET)

build/%/build.ninja: CMakePresets.json
	@command -v cmake >/dev/null && command -v ninja >/dev/null || { echo "make: cmake or ninja is missing; run tools/bootstrap (Debian 12)" >&2; exit 1; }
	@cmake --preset $*

demo:
	@tools/demo

check:
	@tools/check

check-full:
	@tools/check --full

bench: all
	@tools/models/get smollm2
	@build/$(PRESET)/ounce bench kernels
	@build/$(PRESET)/ounce bench "$${OUNCE_MODELS:-$${XDG_CACHE_HOME:-$$HOME/.cache}/ounce/models}/smollm2.gguf"

install: all
	@cmake --install build/$(PRESET) --prefix "$(PREFIX)"

format:
	@git ls-files -z -- '*.c' '*.h' | xargs -0 clang-format-14 -i

clean:
	@rm -rf build
