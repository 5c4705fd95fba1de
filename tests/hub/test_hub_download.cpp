// Downloads from a hub on this machine that misbehaves: cut connections, refusals, wrong lengths, places and bytes.
#include "formats/file.h"
#include "hub/download.h"
#include "hub/hub_cache.h"
#include "hub/model_files.h"
#include "hub_server.h"
#include "run_tool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>

using namespace gnv;
using namespace gnv::test;

namespace {

using Files = std::map<std::string, std::string>;

// A repository with an index, two shards and what surrounds them.
Files add_model(const HubServer & server, const std::string & name, size_t shard_bytes = 40'000) {
    Files files;
    files["config.json"] = "{\"x\": 1}\n";
    files["model.safetensors.index.json"] =
        R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})";
    files["model-1.safetensors"] = made_up_bytes(shard_bytes, 1);
    files["model-2.safetensors"] = made_up_bytes(shard_bytes * 2 + 1, 2);
    files["tokenizer.json"] = made_up_bytes(9'000, 3);
    files["generation_config.json"] = "";
    for (const auto & [path, content] : files) server.add(name + "/" + path, content);
    server.add(name + "/consolidated.safetensors", made_up_bytes(50'000, 4));
    server.add(name + "/pytorch_model.bin", made_up_bytes(60'000, 5));
    return files;
}

HubOptions options_of(const HubServer & server, const std::string & cache) {
    HubOptions hub;
    hub.http = server.http();
    hub.cache = cache;
    hub.retry.first_wait_ms = 1;
    hub.retry.longest_wait_ms = 8;
    return hub;
}

RepositoryName model_name(const std::string & text) {
    return parse_repository_name(RepositoryKind::model, text).take();
}

// The files of `folder` are exactly `files`; returns the first difference.
std::string difference(const std::string & folder, const Files & files) {
    const Result<std::vector<DirectoryEntry>> entries = list_directory(folder);
    if (!entries.ok()) return entries.status().message();
    for (const DirectoryEntry & entry : entries.value())
        if (files.count(entry.name) == 0) return "unexpected " + entry.name;
    for (const auto & [name, content] : files) {
        const Result<std::string> found = read_file(join_path(folder, name), 1 << 28);
        if (!found.ok() || found.value() != content) return "another " + name;
    }
    return "";
}

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("a download leaves room on the disk, and says how much it needs, finds and leaves") {
    const ScratchFolder scratch;
    const HubCache cache(scratch / "cache", model_name("org/name"));
    REQUIRE(cache.prepare().ok());
    // Other programs write to the disk meanwhile, though not half of the 64 MiB again and again.
    bool refused = false, taken = false;
    std::string message;
    for (int i = 0; i < 20 && !(refused && taken); i++) {
        const uint64_t room = free_disk_bytes(cache.folder()).value();
        REQUIRE(room > 2 * spare_disk_bytes);
        RemoteFile file;
        file.hash = std::string(64, 'a');
        file.size = room - spare_disk_bytes / 2;
        Status status = check_room(cache, {file});
        refused = status.code() == Code::no_space;
        message = status.message();
        file.size = room - spare_disk_bytes * 3 / 2;
        taken = check_room(cache, {file}).ok();
    }
    CHECK(refused);
    CHECK(taken);
    CHECK_MESSAGE(has(message, " are to be downloaded, and the disk has "), message);
    CHECK_MESSAGE(has(message, " free, of which 67.1 MB stay free: make room for "), message);
    CHECK_MESSAGE(has(message, " MB more, or set HF_HUB_CACHE"), message);
}

TEST_CASE("a model is downloaded into the cache's layout, once, and without what a run does not need") {
    if (!has_program("python3")) return;
    const HubServer server;
    const Files files = add_model(server, "org/name");
    const ScratchFolder scratch;
    HubOptions hub = options_of(server, scratch / "cache");
    std::string said;
    hub.say = [&](const std::string & line) { said += line + "\n"; };
    HubProgress last;
    hub.progress = [&](const HubProgress & now) {
        if (now.files_total == 2) last = now;
        return true;
    };
    hub.connections = 1;
    CHECK(fetch_model(hub, model_name("org/name"), true).value().empty());
    CHECK_FALSE(path_exists(scratch / "cache"));
    said.clear();
    const Result<std::string> folder = fetch_model(hub, model_name("org/name"), false);
    REQUIRE_MESSAGE(folder.ok(), folder.status().message());
    CHECK(difference(folder.value(), files) == "");
    CHECK(has(said, "org/name@main is commit "));
    CHECK(has(said, "not needed, and not downloaded: 2 files, 110 kB: pytorch_model.bin, consolidated.safetensors"));
    CHECK(last.bytes == last.bytes_total);
    CHECK(last.files == 2);
    CHECK(last.bytes == 120'001);
    // Links into the blobs, as huggingface_hub makes them.
    const std::string repository = scratch / "cache/models--org--name";
    char link[256] = "";
    REQUIRE(readlink((folder.value() + "/config.json").c_str(), link, sizeof link - 1) > 0);
    CHECK(std::string(link).find("../../blobs/") == 0);
    CHECK(read_file(repository + "/refs/main", 100).value() == base_name(folder.value()));
    const std::vector<DirectoryEntry> blobs = list_directory(repository + "/blobs").take();
    for (const DirectoryEntry & entry : blobs) CHECK(entry.name.find("incomplete") == std::string::npos);
    CHECK(server.seen("leaked") == 0);
    // The second time no server is asked.
    const int64_t requests = server.seen("requests");
    CHECK(fetch_model(hub, model_name("org/name"), false).value() == folder.value());
    CHECK(fetch_model(hub, model_name("org/name@" + base_name(folder.value())), false).value() == folder.value());
    CHECK(server.seen("requests") == requests + 1); // of seen() itself
    // A blob that was lost is fetched again.
    REQUIRE(remove_file(canonical_path(folder.value() + "/model-1.safetensors").value()).ok());
    CHECK(find_model_folder(hub.cache, model_name("org/name")).empty());
    CHECK(fetch_model(hub, model_name("org/name"), false).ok());
    CHECK(difference(folder.value(), files) == "");
    // Another branch name of the same commit needs no file again.
    CHECK(fetch_model(hub, model_name("org/name@v1"), false).value() == folder.value());
    CHECK(path_exists(repository + "/refs/v1"));
}

TEST_CASE("1,000 cut connections, and no wrong byte") {
    if (!has_program("python3")) return;
    const HubServer server;
    const Files files = add_model(server, "org/name");
    int64_t cuts = 0;
    for (int run = 0; run < 400 && cuts < 1000; run++) {
        const ScratchFolder scratch;
        server.control("{\"seed\": " + std::to_string(run) + ", \"faults\": {\"cut\": 0.9}}");
        HubOptions hub = options_of(server, scratch / "cache");
        hub.retry.tries = 100; // a reset may take the few bytes of a small file with it
        const Result<std::string> folder = fetch_model(hub, model_name("org/name"), false);
        REQUIRE_MESSAGE(folder.ok(), folder.status().message());
        REQUIRE(difference(folder.value(), files) == "");
        cuts = server.seen("faults");
    }
    CHECK(cuts >= 1000);
    CHECK(server.seen("ranges") > 500); // taken up, not begun anew
}

TEST_CASE("every kind of fault in turns, and no wrong byte") {
    if (!has_program("python3")) return;
    const HubServer server;
    const Files files = add_model(server, "org/name");
    for (int run = 0; run < 12; run++) {
        const ScratchFolder scratch;
        server.control(
            "{\"seed\": " + std::to_string(run) +
            ", \"api\": true, \"faults\": {\"cut\": 0.2, \"429\": 0.1, \"503\": 0.1, \"500\": 0.05, \"short\": "
            "0.1, \"long\": 0.03, \"flip\": 0.03, \"whole\": 0.1, \"place\": 0.03, \"endless\": 0.03}}");
        HubOptions hub = options_of(server, scratch / "cache");
        hub.retry.tries = 100;
        const Result<std::string> folder = fetch_model(hub, model_name("org/name"), false);
        REQUIRE_MESSAGE(folder.ok(), folder.status().message());
        REQUIRE(difference(folder.value(), files) == "");
    }
    CHECK(server.seen("leaked") == 0);
}

TEST_CASE("a server that stays wrong is an error with the name of the file, and leaves no file that looks complete") {
    if (!has_program("python3")) return;
    const HubServer server;
    add_model(server, "org/name");
    const std::pair<const char *, const char *> faults[] = {
        {"flip", "and what it sends has"},
        {"long", "announces"},
        {"503", "after 12 tries"},
    };
    for (const auto & [fault, why] : faults) {
        const ScratchFolder scratch;
        server.control(std::string("{\"only\": \"model-2\", \"every\": \"") + fault + "\"}");
        HubOptions hub = options_of(server, scratch / "cache");
        const Result<std::string> folder = fetch_model(hub, model_name("org/name"), false);
        REQUIRE_FALSE(folder.ok());
        CHECK_MESSAGE(has(folder.status().message(), "org/name: model-2.safetensors: "), folder.status().message());
        CHECK_MESSAGE(has(folder.status().message(), why), folder.status().message());
        CHECK_FALSE(has(folder.status().message(), "signature")); // of an address
        CHECK(find_model_folder(hub.cache, model_name("org/name")).empty());
        CHECK_FALSE(path_exists(scratch / "cache/models--org--name/refs/main"));
        // The same cache is of use when the server is well again.
        server.control("{}");
        CHECK(fetch_model(hub, model_name("org/name"), false).ok());
    }
}

TEST_CASE("what a run left is taken up, also where it is wrong") {
    if (!has_program("python3")) return;
    const HubServer server;
    const Files files = add_model(server, "org/name");
    const ScratchFolder scratch;
    HubOptions hub = options_of(server, scratch / "cache");
    const RepositoryName name = model_name("org/name");
    const RemoteListing listing = list_repository(hub, name).take();
    const HubCache cache(hub.cache, name);
    REQUIRE(cache.prepare().ok());
    const RemoteFile & first = *listing.find("model-1.safetensors");
    const RemoteFile & second = *listing.find("model-2.safetensors");
    scratch.save("cache/models--org--name/blobs/" + first.hash + ".incomplete",
                 files.at("model-1.safetensors").substr(0, 30'000));
    CHECK(cache.bytes_here(first) == 30'000);
    scratch.save("cache/models--org--name/blobs/" + second.hash + ".incomplete", std::string(70'000, 'x')); // wrong
    scratch.save("cache/models--org--name/blobs/" + listing.find("tokenizer.json")->hash + ".incomplete",
                 std::string(10'000, 'x')); // too long
    const Result<std::string> folder = fetch_model(hub, name, false);
    REQUIRE_MESSAGE(folder.ok(), folder.status().message());
    CHECK(difference(folder.value(), files) == "");
    CHECK(server.seen("ranges") == 2);
}

TEST_CASE("a request to stop ends a slow download within a second") {
    if (!has_program("python3")) return;
    const HubServer server;
    add_model(server, "org/name");
    server.control(R"({"every": "slow", "only": "model-"})");
    const ScratchFolder scratch;
    HubOptions hub = options_of(server, scratch / "cache");
    using Clock = std::chrono::steady_clock;
    std::atomic<bool> began{false}, stop{false};
    Clock::time_point asked;
    hub.http.stop = [&] { return stop.load(); };
    hub.progress = [&](const HubProgress & now) {
        if (now.bytes > 3 && now.files_total == 2 && !began.exchange(true)) asked = Clock::now(), stop = true;
        return true;
    };
    const Result<std::string> folder = fetch_model(hub, model_name("org/name"), false);
    CHECK(folder.status().code() == Code::cancelled);
    CHECK(began);
    CHECK(std::chrono::duration<double>(Clock::now() - asked).count() < 3); // one, on a machine with nothing else to do
}

TEST_CASE("the token goes to the hub alone; without the right one the message says what to do, and never the token") {
    if (!has_program("python3")) return;
    const std::string token = "hf_secret_of_a_test";
    const HubServer server({"--token", token});
    const Files files = add_model(server, "private/name");
    const ScratchFolder scratch;
    HubOptions hub = options_of(server, scratch / "cache");
    Result<std::string> folder = fetch_model(hub, model_name("private/name"), false);
    CHECK(folder.status().code() == Code::not_found);
    CHECK_MESSAGE(has(folder.status().message(), "or set HF_TOKEN"), folder.status().message());
    hub.http.token = "hf_wrong_token";
    folder = fetch_model(hub, model_name("private/name"), false);
    CHECK(has(folder.status().message(), "the hub refuses the token"));
    CHECK_FALSE(has(folder.status().message(), hub.http.token));
    hub.http.token = token;
    folder = fetch_model(hub, model_name("private/name"), false);
    REQUIRE_MESSAGE(folder.ok(), folder.status().message());
    CHECK(difference(folder.value(), files) == "");
    CHECK(server.seen("leaked") == 0);
    hub.http.token = "a\r\nX-Other: 1";
    CHECK(has(fetch_model(hub, model_name("private/other"), false).status().message(), "line break"));
}

TEST_CASE("repositories that are not there, hold no checkpoint, or lie") {
    if (!has_program("python3")) return;
    const HubServer server;
    server.add("org/gguf/model.gguf", made_up_bytes(5000, 1));
    server.add("org/gguf/config.json", "{}");
    add_model(server, "org/name");
    const ScratchFolder scratch;
    const HubOptions hub = options_of(server, scratch / "cache");
    const auto message = [&](const char * name) {
        return fetch_model(hub, model_name(name), false).status().message();
    };
    CHECK(has(message("org/none"), "org/none: the hub has no such repository"));
    CHECK(has(message("org/name@v2"), "no such repository, revision or file"));
    CHECK(has(message("org/gguf"), "org/gguf: holds no *.safetensors"));
    CHECK(has(message("org/gguf"), "model.gguf"));
    server.add("org/lost/config.json", "{}");
    server.add("org/lost/model-1.safetensors", "x");
    server.add("org/lost/model.safetensors.index.json", R"({"weight_map": {"a": "model-9.safetensors"}})");
    CHECK(has(message("org/lost"), "its index names model-9.safetensors, which the repository lacks"));
    const std::string commit(40, 'a');
    const auto lie = [&](const std::string & file) {
        server.control("{\"listing\": \"{\\\"sha\\\": \\\"" + commit + "\\\", \\\"siblings\\\": [" + file + "]}\"}");
        return message("org/name");
    };
    CHECK(has(lie(R"({\"rfilename\": \"../../../x\", \"size\": 1, \"blobId\": \")" + commit + R"(\"})"),
              "names a file \"../../../x\", which leads out of its folder"));
    const std::string config = R"({\"rfilename\": \"config.json\", \"size\": 1, \"blobId\": \")" + commit + R"(\"})";
    CHECK(has(lie(config + R"(,{\"rfilename\": \"model.safetensors\", \"size\": 60000000000000, \"blobId\": \")" +
                  commit + R"(\"})"),
              "60.0 TB are to be downloaded, and the disk has"));
    CHECK_FALSE(path_exists(scratch / "x"));
    HubOptions nowhere = hub;
    nowhere.http.endpoint = "http://127.0.0.1:9";
    CHECK(has(fetch_model(nowhere, model_name("org/x"), false).status().message(), "after 6 tries"));
    nowhere.http.endpoint = "file:///etc";
    CHECK(has(fetch_model(nowhere, model_name("org/x"), false).status().message(), "is no http or https URL"));
}

TEST_CASE("TLS with a certificate of its own: trusted where it is named, refused elsewhere") {
    if (!has_program("python3") || !has_program("openssl")) return;
    const ScratchFolder keys, scratch;
    const std::string certificate = keys / "cert.pem", key = keys / "key.pem";
    REQUIRE(system(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "
                    "subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout " +
                    key + " -out " + certificate + " 2>/dev/null")
                       .c_str()) == 0);
    HubServer server({"--tls", certificate, key});
    server.ca_file = certificate;
    const Files files = add_model(server, "org/name");
    HubOptions hub = options_of(server, scratch / "cache");
    Result<std::string> folder = fetch_model(hub, model_name("org/name"), false);
    REQUIRE_MESSAGE(folder.ok(), folder.status().message());
    CHECK(difference(folder.value(), files) == "");
    hub.cache = scratch / "other";
    hub.http.ca_file.clear();
    folder = fetch_model(hub, model_name("org/name"), false);
    CHECK_FALSE(folder.ok());
    CHECK_MESSAGE(has(folder.status().message(), "certificate"), folder.status().message());
    CHECK_FALSE(has(folder.status().message(), "tries")); // not tried again
}

#ifdef GNV_TEST_HUB_TOOLS
TEST_CASE("quantize takes a model of the hub, and says what it downloads; offline it names the command") {
    if (!has_program("python3")) return;
    const HubServer server({"--token", "hf_token_of_the_file"});
    REQUIRE(make_directory(server.root / "private").ok());
    REQUIRE(symlink(GNV_TEST_BINARY_DIR "/data/qwen36-tiny", (server.root / "private/tiny").c_str()) == 0);
    const ScratchFolder scratch;
    const std::string base = "unset HF_HUB_CACHE HF_TOKEN HF_TOKEN_PATH; export HF_HOME=" + scratch.path() +
                             " HF_ENDPOINT=" + server.url() + "; ";
    const std::string arguments = "private/tiny --scheme nvfp4a16 -o " + (scratch / "made") + " 2>&1";
    ToolRun run = run_tool("quantize", arguments, base);
    CHECK(run.exit_code == 2);
    CHECK_MESSAGE(has(run.out, "private/tiny: the hub has no such repository"), run.out);
    scratch.save("token", "hf_token_of_the_file\n");
    run = run_tool("quantize", arguments, base + "export HF_HUB_OFFLINE=1; ");
    CHECK(has(run.out, "download it first: hf download private/tiny"));
    run = run_tool("quantize", "--dry-run " + arguments, base);
    CHECK(run.exit_code == 2);
    CHECK(has(run.out, "--dry-run downloads nothing"));
    CHECK(has(run_tool("quantize", "--download " + arguments, base).out, "--download goes with --dry-run"));
    run = run_tool("quantize", "--dry-run --download " + arguments, base);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK(has(run.out, "private/tiny@main is commit "));
    CHECK_FALSE(has(run.out, "hf_token_of_the_file"));
    CHECK_FALSE(path_exists(scratch / "made"));
    run = run_tool("quantize", arguments, base);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK(path_exists(scratch / "made/config.json"));
    run = run_tool("quantize", "--dry-run --scheme nvfp4a16 private/tiny 2>&1", base + "export HF_HUB_OFFLINE=1; ");
    CHECK(run.exit_code == 0);
}
#endif
