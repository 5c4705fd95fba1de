// Uploads to a hub on this machine, also over connections that are cut.
#include "formats/file.h"
#include "hub/upload.h"
#include "hub_server.h"
#include "run_tool.h"

#include <atomic>
#include <map>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Place {
    Place() {
        REQUIRE(make_directory(scratch / "made").ok());
        REQUIRE(make_directory(scratch / "made/templates").ok());
        files["config.json"] = "{}\n";
        files["model-1.safetensors"] = made_up_bytes(13'001, 1); // three parts
        files["model-2.safetensors"] = made_up_bytes(10'000, 2); // two
        files["tokenizer.json"] = made_up_bytes(4'500, 3);       // one piece
        files["templates/a b.jinja"] = "x";
        files["empty"] = "";
        for (const auto & [name, content] : files) scratch.save("made/" + name, content);
        scratch.save("made/.env", "SECRET=1\n");
        hub.http = server.http();
        hub.http.token = "hf_test_token";
        hub.retry.first_wait_ms = 1;
        hub.retry.longest_wait_ms = 8;
        hub.retry.tries = 30;
    }
    Result<std::string> run(bool create = true) {
        UploadOptions options;
        options.create = create, options.is_private = true;
        return upload_folder(hub, scratch / "made", parse_repository_name(RepositoryKind::model, "me/model").take(),
                             options);
    }
    // The files of the repository are those of the folder.
    void check() const {
        for (const auto & [name, content] : files)
            CHECK_MESSAGE(read_file(server.root / ("me/model/" + name), 1 << 20).value() == content, name);
        CHECK(list_directory(server.root / "me/model").value().size() == files.size());
        CHECK(server.seen("leaked") == 0);
    }

    const HubServer server;
    const ScratchFolder scratch;
    std::map<std::string, std::string> files;
    HubOptions hub;
};

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("a folder is uploaded in one commit, large files in parts, and nothing is sent twice") {
    if (!has_program("python3")) return;
    Place place;
    std::string said;
    place.hub.say = [&](const std::string & line) { said += line + "\n"; };
    HubProgress last;
    place.hub.connections = 1;
    place.hub.progress = [&](const HubProgress & now) {
        last = now;
        return true;
    };
    const Result<std::string> page = place.run();
    REQUIRE_MESSAGE(page.ok(), page.status().message());
    CHECK(page.value() == place.server.url() + "/me/model");
    place.check();
    CHECK(has(said, "made the private repository me/model"));
    CHECK(has(said, "uploading 6 files, 27.5 kB, to me/model: 3 large ones first, then one commit"));
    CHECK(last.bytes == 27'501);
    CHECK(place.server.seen("sent") == 27'501);
    // Again: a commit alone.
    said.clear();
    REQUIRE(place.run().ok());
    CHECK(place.server.seen("sent") == 27'501);
    CHECK(has(said, "3 of them were there already"));
    // One changed file.
    place.files["model-2.safetensors"] =
        place.scratch.save("made/model-2.safetensors", made_up_bytes(7'000, 9)).empty() ? "" : made_up_bytes(7'000, 9);
    REQUIRE(place.run(false).ok());
    CHECK(place.server.seen("sent") == 34'501);
    place.check();
}

TEST_CASE("uploads over cut connections and through refusals") {
    if (!has_program("python3")) return;
    Place place;
    for (int run = 0; run < 5; run++) {
        place.files["model-1.safetensors"] = made_up_bytes(40'001, uint64_t(run + 10));
        place.scratch.save("made/model-1.safetensors", place.files["model-1.safetensors"]);
        place.server.control("{\"seed\": " + std::to_string(run) +
                             ", \"api\": true, \"faults\": {\"cut\": 0.4, \"429\": 0.1, \"503\": 0.1, \"500\": 0.1}}");
        const Result<std::string> page = place.run();
        REQUIRE_MESSAGE(page.ok(), page.status().message());
        place.check();
    }
    CHECK(place.server.seen("faults") > 20);
}

TEST_CASE("an upload that is stopped goes on where it ended") {
    if (!has_program("python3")) return;
    Place place;
    place.hub.connections = 1;
    place.hub.progress = [](const HubProgress & now) { return now.files == 0; };
    CHECK(place.run().status().code() == Code::cancelled);
    CHECK(list_directory(place.server.root / "me/model").value().empty()); // no commit
    CHECK(place.server.seen("sent") == 13'001);
    place.hub.progress = nullptr;
    REQUIRE(place.run().ok());
    CHECK(place.server.seen("sent") == 27'501);
    place.check();
}

TEST_CASE("what an upload needs is said before the first byte") {
    if (!has_program("python3")) return;
    Place place;
    CHECK(has(place.run(false).status().message(), "me/model: the hub has no such repository"));
    place.hub.http.token = "hf_wrong_token";
    const std::string refused = place.run().status().message();
    CHECK(has(refused, "the hub refuses the token"));
    CHECK_FALSE(has(refused, "hf_wrong"));
    place.hub.http.token.clear();
    CHECK(has(place.run().status().message(), "an upload needs a token that may write"));
    place.hub.http.token = "hf_test_token";
    REQUIRE(remove_file(place.scratch / "made/config.json").ok());
    CHECK(has(place.run().status().message(), "holds no config.json"));
    CHECK(place.server.seen("sent") == 0);
}

#ifdef GNV_TEST_HUB_TOOLS
TEST_CASE("quantize --upload sends the result, and an earlier one without SRC") {
    if (!has_program("python3")) return;
    const HubServer server;
    const ScratchFolder scratch;
    const std::string base =
        "export HF_HUB_CACHE=" + scratch.path() + " HF_TOKEN=hf_test_token HF_ENDPOINT=" + server.url() + "; ";
    const std::string made = scratch / "made";
    // Before a run: a repository that is not there, a name that is none, a token that is missing or wrong.
    const std::string quantize = GNV_TEST_BINARY_DIR "/data/qwen36-tiny --scheme nvfp4a16 -o " + made;
    ToolRun run = run_tool("quantize", quantize + " --upload me/model 2>&1", base);
    CHECK(run.exit_code == 2);
    CHECK_MESSAGE(has(run.out, "--create public, or private, makes the repository."), run.out);
    CHECK(has(run_tool("quantize", quantize + " --upload me 2>&1", base).out, "no name of the hub"));
    CHECK(has(run_tool("quantize", quantize + " --upload me/model --create public 2>&1", base + "unset HF_TOKEN; ").out,
              "an upload needs a token"));
    CHECK(has(
        run_tool("quantize", quantize + " --upload me/model --create public 2>&1", base + "export HF_TOKEN=x; ").out,
        "the hub refuses the token"));
    CHECK_FALSE(path_exists(made));
    REQUIRE(run_tool("quantize", quantize + " --quiet", base).exit_code == 0);
    run = run_tool("quantize", "--upload me/model -o " + made + " 2>&1", base);
    CHECK(run.exit_code == 2);
    CHECK_MESSAGE(has(run.out, "is complete; to go on with the upload: quantize --upload me/model -o " + made),
                  run.out);
    run = run_tool("quantize", "--upload me/model --create public -o " + made + " 2>&1", base);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK(has(run.out, "uploaded to " + server.url() + "/me/model"));
    CHECK(read_file(server.root / "me/model/model.safetensors", 1 << 28).value() ==
          read_file(made + "/model.safetensors", 1 << 28).value());
    const std::string again = scratch / "again"; // and after a run of its own
    run = run_tool("quantize",
                   GNV_TEST_BINARY_DIR "/data/qwen36-tiny --scheme nvfp4a16 --upload me/model -o " + again + " 2>&1",
                   base);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK(has(run.out, "uploaded to " + server.url() + "/me/model"));
    CHECK(has(run_tool("quantize", "--upload me/model 2>&1", base).out, "-o DST is needed"));
    CHECK(
        has(run_tool("quantize", "--upload me/model -o x --scheme nvfp4 2>&1", base).out, "has no effect without SRC"));
}
#endif
