# The front door. meson.build is where things are built; tools/ has what these run.
#
#   make up      a cloud on this machine, with a running instance   (MOLN_STATE=DIR: where)
#   make down    power-off; 'make up' starts it again
#   make purge   delete it
#   make test    all tests

BUILD = build

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

up down purge:
	@tools/$@.sh

test:
	@tools/test.sh quick

test-long:
	@tools/test.sh long

bench:
	@bench/run

install: all
	meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) build-test

.PHONY: all up down purge test test-long bench install clean
