// ORG/NAME[@REVISION] in place of a folder, found as huggingface_hub lays its cache out.
#include "program_fixture.h"
#include "run_tool.h"

#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("models of the hub's cache by name, branch and commit; what is not there comes with the command to get it") {
    const SmallRun & small = small_run();
    const ScratchFolder cache;
    const std::string repository = cache / "hub/models--some-org--small.model";
    const std::string commit = "0123456789abcdef0123456789abcdef01234567";
    for (const std::string & folder : {cache / "hub", repository, repository + "/refs", repository + "/snapshots"})
        REQUIRE(make_directory(folder).ok());
    REQUIRE(symlink(small.source.c_str(), (repository + "/snapshots/" + commit).c_str()) == 0);
    REQUIRE(write_file_synced(repository + "/refs/main", commit).ok());
    REQUIRE(write_file_synced(repository + "/refs/v1", commit + "\n").ok());
    const auto plan = [&](const std::string & model, const std::string & environment) {
        return run_tool("quantize", model + " --dry-run --scheme nvfp4a16 2>&1",
                        "cd " + cache.path() + "; export HF_HUB_OFFLINE=1; " + environment);
    };
    const std::string by_home = "unset HF_HUB_CACHE; export HF_HOME=" + cache.path() + "; ";
    const std::string by_cache = "export HF_HOME=/nowhere HF_HUB_CACHE=" + (cache / "hub") + "; ";
    const std::string by_user = "unset HF_HUB_CACHE HF_HOME; export XDG_CACHE_HOME=/nowhere; ";
    for (const std::string & environment : {by_home, by_cache})
        for (const std::string model :
             {"some-org/small.model", "some-org/small.model@v1", "some-org/small.model@main"}) {
            const ToolRun run = plan(model, environment);
            CHECK_MESSAGE(run.exit_code == 0, run.out);
            CHECK_MESSAGE(run.out.find("/snapshots/" + commit) != std::string::npos, run.out);
        }
    CHECK(plan("some-org/small.model@" + commit, by_cache).exit_code == 0);
    ToolRun run = plan("some-org/other@v2", by_cache);
    CHECK(run.exit_code == 2);
    CHECK(run.out.find("error: some-org/other@v2: no such folder, and not in the hub's cache " + (cache / "hub") +
                       "; download it first: hf download some-org/other --revision v2\n") != std::string::npos);
    run = plan("some-org/other", by_user);
    CHECK(run.out.find(
              "not in the hub's cache /nowhere/huggingface/hub; download it first: hf download some-org/other\n") !=
          std::string::npos);
    // A folder of that name is itself, and a path is no name.
    REQUIRE(make_directory(cache / "some-org").ok());
    REQUIRE(symlink(small.source.c_str(), (cache / "some-org/other").c_str()) == 0);
    CHECK(plan("some-org/other", by_cache).exit_code == 0);
    CHECK(plan("./some-org/none", by_cache).out.find("hf download") == std::string::npos);
    CHECK(plan("some-org/../x", by_cache).out.find("hf download") == std::string::npos);
}
