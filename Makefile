# The front door; CMakeLists.txt is the truth. `make help` lists the targets.
BUILD        ?= build
JOBS         ?= $(shell nproc 2>/dev/null || echo 2)
CMAKE_ARGS   ?=
FUZZ_SECONDS ?= 60
ARCHITECTURES ?= x86_64 aarch64
MAKEFLAGS    += --no-print-directory

# A folder keeps the generator that it was made with; a new one gets Ninja where that is installed.
generator = $(if $(wildcard $(BUILD)/CMakeCache.txt),,$(if $(shell command -v ninja 2>/dev/null),-G Ninja))
settings  = -DGNV_BUILD_TOOLS=ON -DGNV_BUILD_TESTS=ON $(CMAKE_ARGS)
# A folder that can't be configured (made by a compiler that is gone, or copied from elsewhere) is configured afresh.
configure = cmake -S . -B $(BUILD) $(generator) $(settings) || { test -e $(BUILD)/CMakeCache.txt && \
            rm -rf $(BUILD)/CMakeCache.txt $(BUILD)/CMakeFiles && cmake -S . -B $(BUILD) $(settings); }
build     = cmake --build $(BUILD) --parallel $(JOBS)
demo_text = --prompt 'The function returns' --n-predict 24 --greedy
# Sanitizer builds have a folder of their own, leave CUDA out and run each test program in parts.
sanitize  = $(MAKE) test CMAKE_ARGS="$(CMAKE_ARGS) -DGNV_CUDA=OFF -DGNV_SANITIZE=$(1) -DGNV_TEST_PARTS=$(JOBS)" \
            BUILD=$(BUILD)-$(2)

.PHONY: all deps configure demo test test-cuda test-cuda-sanitize bench bench-cuda asan tsan fuzz check format install dist \
        clean help

all: configure ## build library, programs and tests
	$(build)

deps: ## install what the build needs and this machine lacks (Debian, Ubuntu); asks first, but for root and CI=true
	@./scripts/install_deps.sh

configure: deps
	@$(configure)

demo: configure ## build the programs, calibrate and quantize the small checkpoint, compare the result with it, let both write
	$(build) --target quantize verify run test_data
	@mkdir -p $(BUILD)/demo
	$(BUILD)/bin/quantize $(BUILD)/data/qwen36-tiny -o $(BUILD)/demo/qwen36-tiny-nvfp4 --overwrite \
		--calib tests/data/calibration.jsonl.zst --samples 32 --seq-len 256 --no-shuffle --device cpu
	$(BUILD)/bin/verify $(BUILD)/demo/qwen36-tiny-nvfp4 --source $(BUILD)/data/qwen36-tiny \
		--data tests/data/eval.jsonl.zst --documents 20
	$(BUILD)/bin/run $(BUILD)/data/qwen36-tiny $(demo_text)
	$(BUILD)/bin/run $(BUILD)/demo/qwen36-tiny-nvfp4 $(demo_text)

test: all ## build everything and run the tests
	@cd $(BUILD) && ctest --output-on-failure --no-tests=error --parallel $(JOBS)

bench: configure ## measure the speed of the parts, beside a memcpy, and of quantize beside cp -r (10 GB of disk)
	$(build) --target benchmarks quantize make-checkpoint test_data
	$(BUILD)/tests/bin/bench_nvfp4
	$(BUILD)/tests/bin/bench_gemm
	$(BUILD)/tests/bin/bench_tokenizer $(BUILD)/data/qwen36-tiny tests/data/golden/tokens.json
	$(BUILD)/tests/bin/bench_dataset $(BUILD)/data/qwen36-tiny tests/data/calibration.jsonl.zst
	$(BUILD)/tests/bin/bench_images tests/data/configs/qwen36-35b-a3b.json
	./scripts/bench_quantize.sh $(BUILD)

test-cuda: configure ## run the CUDA kernels against their CPU twins (needs a device)
	$(build) --target test_cuda
	$(BUILD)/tests/bin/test_cuda

test-cuda-sanitize: configure ## run CUDA's compute-sanitizer over the kernels and a whole run (needs a device; minutes)
	$(build) --target test_cuda quantize test_data
	./scripts/sanitize_cuda.sh $(BUILD)

bench-cuda: configure ## measure the CUDA kernels, then the full 35B shape (73 GB of /dev/shm, 52 GB of disk)
	$(build) --target test_cuda bench_images quantize verify make-checkpoint test_data
	./scripts/bench_cuda.sh $(BUILD)

asan: ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(call sanitize,address$(comma)undefined,asan)

tsan: ## run the tests under ThreadSanitizer
	@$(call sanitize,thread,tsan)

fuzz: ## run every fuzz target for FUZZ_SECONDS seconds each (clang)
	@./scripts/install_deps.sh fuzz
	@./scripts/fuzz.sh $(BUILD)-fuzz $(FUZZ_SECONDS) $(JOBS)

check: ## check the source tree, the documents, the format, and an aarch64 build if its compiler is installed
	@./scripts/install_deps.sh check
	@python3 scripts/check_tree.py --self-test
	@python3 scripts/check_tree.py
	@python3 scripts/check_docs.py --self-test
	@python3 scripts/check_docs.py
	@./scripts/format.sh --check
	@./scripts/check_aarch64.sh $(BUILD)-aarch64 $(JOBS)

format: ## format the sources
	@./scripts/install_deps.sh format
	@./scripts/format.sh

# A folder that has tests keeps them; a new one gets none.
install: settings = $(if $(wildcard $(BUILD)/CMakeCache.txt),,-DGNV_BUILD_TESTS=OFF) -DGNV_BUILD_TOOLS=ON $(CMAKE_ARGS)
install: configure ## install library, header, CMake package and program (DESTDIR; CMAKE_ARGS=-DCMAKE_INSTALL_PREFIX=...)
	$(build) --target ggml-nvfp4 ggml-nvfp4-program
	cmake --install $(BUILD)

dist: ## make the archives and wheels of a release, for ARCHITECTURES (Debian, Ubuntu; docs/release.md)
	@./scripts/install_deps.sh dist check $(if $(filter-out $(shell uname -m),$(ARCHITECTURES)),cross)
	@CMAKE_ARGS="$(CMAKE_ARGS)" ./scripts/release/make_dist.sh $(BUILD)-dist $(JOBS) $(ARCHITECTURES)

clean: ## remove the build folders
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-aarch64 $(BUILD)-dist

help: ## print this
	@echo "Variables: BUILD=$(BUILD)  JOBS=$(JOBS)  CMAKE_ARGS=\"...\"  FUZZ_SECONDS=$(FUZZ_SECONDS)  ARCHITECTURES=\"$(ARCHITECTURES)\""
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{ printf "  make %-18s %s\n", $$1, $$2 }'

comma := ,
