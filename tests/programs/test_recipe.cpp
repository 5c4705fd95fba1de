// quantize --recipe: the recipe.yaml of a run makes that run again; options beside it, and lines that cannot be met.
#include "programs/program_fixture.h"

#include <ggml-nvfp4.h>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("the recipe.yaml of a run gives the same bytes again") {
    const SmallRun & small = small_run();
    const NewPath first(small.scratch / "first"), again(small.scratch / "again");
    const Words data = {"--tokens", small.tokens, "--device", "cpu", "--threads", "2", "--quiet"};
    const Ended made =
        run_program(Words{"quantize", small.source, "-o", first, "--preset", "experts-only", "--headroom", "2.7",
                          "--method", "mse", "--keep", ".*layers\\.1\\..*", "--draft-head", "nvfp4a16"} +
                    data);
    REQUIRE_MESSAGE(made.exit_code == 0, made.errors);
    const Ended remade =
        run_program(Words{"quantize", small.source, "-o", again, "--recipe", first.text() + "/recipe.yaml"} + data);
    REQUIRE_MESSAGE(remade.exit_code == 0, remade.errors);
    size_t compared = 0;
    const std::vector<DirectoryEntry> entries = list_directory(first).take();
    for (const DirectoryEntry & entry : entries) {
        if (entry.name == "README.md") continue; // names the command
        CAPTURE(entry.name);
        CHECK(read_file(join_path(first, entry.name), 1 << 30).value() ==
              read_file(join_path(again, entry.name), 1 << 30).value());
        compared++;
    }
    CHECK(compared >= 5);
    // A run may replace the folder that its recipe is in, once it has read it.
    const Ended inside = run_program(
        Words{"quantize", small.source, "-o", first, "--overwrite", "--recipe", first.text() + "/recipe.yaml"} + data);
    CHECK(inside.exit_code == 2);
    CHECK(path_exists(first.text() + "/recipe.yaml"));
}

TEST_CASE("a recipe decides alone, and is refused by line") {
    const SmallRun & small = small_run();
    const std::string good = small.scratch.save("good.yaml", "default_stage:\n  default_modifiers:\n"
                                                             "    QuantizationModifier: {scheme: NVFP4A16, ignore: "
                                                             "[lm_head, 're:.*gate$', 're:.*linear_attn.*']}\n");
    const Words plan = {"quantize", small.source, "--dry-run", "--no-estimate", "--recipe"};
    const Ended planned = run_program(plan + Words{good});
    CHECK_MESSAGE(planned.exit_code == 0, planned.errors);
    CHECK(planned.out.find("nvfp4a16, preset file") != std::string::npos);
    for (const Words & option : std::vector<Words>{{"--scheme", "nvfp4"},
                                                   {"--preset", "recipe"},
                                                   {"--method", "rtn"},
                                                   {"--headroom", "2"},
                                                   {"--draft-head", "keep"},
                                                   {"--ignore", "a"},
                                                   {"--include", "a"},
                                                   {"--keep", "a"}}) {
        const Ended ended = run_program(plan + Words{good} + option);
        CAPTURE(option[0]);
        CHECK(ended.exit_code == 2);
        CHECK(ended.says(option[0] + " is for the recipe to decide"));
    }
    const std::string bad =
        small.scratch.save("bad.yaml", "default_stage:\n  default_modifiers:\n"
                                       "    QuantizationModifier:\n      scheme: FP8\n      foo: 1\n");
    const Ended ended = run_program(plan + Words{bad});
    CHECK(ended.exit_code == 2);
    CHECK(ended.says("warning: " + bad + ":4: scheme: \"FP8\" is no scheme"));
    CHECK(ended.says("warning: " + bad + ":5: foo: no key"));
    CHECK(ended.says("error: 2 lines of the recipe cannot be met; the first: " + bad + ":4"));
    const Ended missing = run_program(plan + Words{small.scratch / "no.yaml"});
    CHECK(missing.exit_code == 2);
    CHECK(missing.says("no.yaml"));
}

TEST_CASE("C API: rules beside a recipe are refused") {
    const SmallRun & small = small_run();
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    gnv_plan_options options;
    gnv_plan_options_init(&options);
    const std::string recipe = small.made + "/recipe.yaml";
    options.recipe_file = recipe.c_str();
    gnv_plan_t * plan = nullptr;
    CHECK(gnv_plan_create(engine, small.source.c_str(), &options, &plan) == GNV_OK);
    gnv_plan_destroy(plan);
    options.method = GNV_METHOD_MSE;
    CHECK(gnv_plan_create(engine, small.source.c_str(), &options, &plan) == GNV_INVALID_ARGUMENT);
    CHECK(std::string(gnv_last_error(engine)).find("recipe_file decides scheme") != std::string::npos);
    gnv_engine_destroy(engine);
}

TEST_CASE("--dry-run says how long a run takes and what it costs, unless it is left out") {
    const SmallRun & small = small_run();
    const Words plan = {"quantize", small.source, "--dry-run", "--tokens", small.tokens, "--device", "cpu"};
    const Ended measured = run_program(plan + Words{"--price", "2.5"});
    REQUIRE_MESSAGE(measured.exit_code == 0, measured.errors);
    for (const char * part : {"time on this machine, by rates measured now", "forward pass, by its operations",
                              "in all", "of disk and ", " at $2.5 an hour"})
        CHECK_MESSAGE(measured.out.find(part) != std::string::npos, measured.out);
    const Ended assumed = run_program(plan + Words{"--assume", "h200"});
    CHECK_MESSAGE(assumed.out.find("time on an H200, by records") != std::string::npos, assumed.out);
    CHECK(run_program(plan + Words{"--no-estimate"}).out.find("time on") == std::string::npos);
    CHECK(run_program(plan + Words{"--assume", "abacus"}).exit_code == 2);
}
