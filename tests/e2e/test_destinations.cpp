// What a run to a destination must not harm, whatever it is asked: the source and all else that it reads, by any name, what
// other programs put there, and what another run writes.
#include "checkpoint_files.h"
#include "faults/small_model.h"
#include "quantize/quantize.h"
#include "scratch.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Request {
    std::string destination;
    bool overwrite = true;
    std::vector<std::string> reads = {};
    std::string trace = {};
    std::function<bool()> progress = {};
};

Status run(const std::string & source, const Request & request) {
    PlanOptions plan_options;
    plan_options.recipe.scheme = &formats::nvfp4a16;
    plan_options.shard_bytes = small_shard_bytes;
    plan_options.threads = 2;
    GNV_ASSIGN(const Plan plan, make_plan(source, plan_options));
    const auto threads = ThreadPool::create(2).take();
    QuantizeOptions options;
    options.destination = request.destination;
    options.overwrite = request.overwrite;
    options.reads = request.reads;
    options.trace_file = request.trace;
    if (request.progress) options.progress = [&](const QuantizeProgress &) { return request.progress(); };
    return quantize(plan, *threads, options).take_status();
}

// A source, and what becomes of it when nothing is in the way.
struct Place {
    ScratchFolder scratch;
    std::string source = scratch / "source", out = scratch / "out";
    Files source_files, result;

    Place() {
        write_small_model(source);
        source_files = read_folder(source);
        REQUIRE(run(source, {scratch / "good"}).ok());
        result = read_folder(scratch / "good");
    }
    // Refused with these words in the message, and everything is where it was.
    void check_refused(const std::string & from, const Request & request, const std::string & words) const {
        const Files before = read_folder(scratch.path());
        const Status status = run(from, request);
        CAPTURE(words);
        CAPTURE(status.message());
        CHECK_FALSE(status.ok());
        CHECK(status.message().find(words) != std::string::npos);
        CHECK(read_folder(scratch.path()) == before);
    }
    void move_source(const std::string & to) const { REQUIRE(rename_path(source, to).ok()); }
    void copy_result(const std::string & to) const { // a checkpoint that may be overwritten
        REQUIRE(make_directory(to).ok());
        REQUIRE(make_directory(to + "/images").ok());
        for (const auto & [name, content] : result) REQUIRE(write_file_synced(join_path(to, name), content).ok());
    }
};

} // namespace

TEST_CASE("the source lies where the result is made, or where what it replaces is moved") {
    for (const char * suffix : {".partial", ".old", ""}) {
        for (const char * inside : {"", "/sub", "/sub/sub"}) {
            const Place place;
            CAPTURE(suffix);
            CAPTURE(inside);
            const std::string there = place.out + suffix, from = there + inside;
            if (*inside) REQUIRE(make_directory(there).ok());
            if (std::string(inside) == "/sub/sub") REQUIRE(make_directory(there + "/sub").ok());
            place.move_source(from);
            const std::string words = *inside ? "the source lies inside" : "is the source";
            for (const char * slash : {"", "/", "/."}) {
                place.check_refused(from, {place.out + (*suffix ? "" : slash)}, words);
                place.check_refused(from + slash, {place.out}, words);
            }
            if (*suffix && std::string(suffix) != ".old") place.check_refused(from, {place.out, false}, words);
            // By another name.
            REQUIRE(symlink(from.c_str(), (place.scratch / "link").c_str()) == 0);
            const Status status = run(place.scratch / "link", {place.out});
            CHECK(status.message().find(words) != std::string::npos);
            CHECK(read_folder(from) == place.source_files);
        }
    }
}

TEST_CASE("a name beside the destination that is a link") {
    const Place place;
    REQUIRE(make_directory(place.scratch / "elsewhere").ok());
    place.scratch.save("elsewhere/journal", "ggml-nvfp4 journal 1\n");
    place.scratch.save("elsewhere/config.json", "{}");
    REQUIRE(symlink(place.source.c_str(), (place.out + ".partial").c_str()) == 0);
    CHECK(run(place.source, {place.out}).message().find("is the source") != std::string::npos);
    REQUIRE(remove_file(place.out + ".partial").ok());
    REQUIRE(symlink((place.scratch / "elsewhere").c_str(), (place.out + ".partial").c_str()) == 0);
    CHECK(run(place.source, {place.out}).message().find("is no folder that a run made") != std::string::npos);
    CHECK(path_exists(place.scratch / "elsewhere/config.json"));
    CHECK(path_exists(place.scratch / "elsewhere/journal"));
}

TEST_CASE("files of the source that lie in what would be replaced, by links of either kind") {
    const char * const shard = "model-00001-of-00002.safetensors";
    const Place place;
    const std::string blob = place.scratch / "blob", held = place.out + "/" + shard;
    const auto reset = [&](bool with_old) {
        for (const std::string & path : {place.out, place.out + ".partial"})
            if (path_exists(path)) REQUIRE(remove_tree(path).ok());
        if (path_exists(blob)) REQUIRE(remove_file(blob).ok());
        REQUIRE(remove_file(join_path(place.source, shard)).ok());
        if (with_old) place.copy_result(place.out);
        if (path_exists(held)) REQUIRE(remove_file(held).ok());
    };
    const auto check = [&] {
        const Status status = run(place.source, {place.out});
        CAPTURE(status.message());
        CHECK(status.code() != Code::ok);
        CHECK(status.message().find(shard) != std::string::npos);
        CHECK(read_folder(place.source) == place.source_files);
    };
    const std::string & content = place.source_files.at(shard);
    SUBCASE("a link into the destination") {
        reset(true);
        REQUIRE(write_file_synced(held, content).ok());
        REQUIRE(symlink(held.c_str(), join_path(place.source, shard).c_str()) == 0);
        check();
    }
    SUBCASE("a link to a link in the destination") {
        reset(true);
        REQUIRE(write_file_synced(blob, content).ok());
        REQUIRE(symlink("../blob", held.c_str()) == 0);
        REQUIRE(symlink(held.c_str(), join_path(place.source, shard).c_str()) == 0);
        check();
    }
    SUBCASE("the same file by two names") {
        reset(true);
        REQUIRE(write_file_synced(held, content).ok());
        REQUIRE(link(held.c_str(), join_path(place.source, shard).c_str()) == 0);
        check();
    }
    SUBCASE("a link into DST.partial, which has a journal") {
        reset(false);
        REQUIRE(make_directory(place.out + ".partial").ok());
        REQUIRE(write_file_synced(place.out + ".partial/journal", "ggml-nvfp4 journal 1\n").ok());
        REQUIRE(write_file_synced(place.out + ".partial/" + shard, content).ok());
        REQUIRE(symlink((place.out + ".partial/" + shard).c_str(), join_path(place.source, shard).c_str()) == 0);
        check();
    }
}

TEST_CASE("other files of the run that lie in what would be removed") {
    const Place place;
    place.copy_result(place.out);
    const std::string data = place.out + "/README.md", link = place.scratch / "data";
    REQUIRE(write_file_synced(data, "text").ok());
    REQUIRE(symlink(data.c_str(), link.c_str()) == 0);
    place.check_refused(place.source, {place.out, true, {data}}, "README.md, which this run reads");
    place.check_refused(place.source, {place.out, true, {link}}, "which this run reads");
    place.check_refused(place.source, {place.out, true, {}, place.out + "/trace.json"}, "where this run writes");
    REQUIRE(remove_file(link).ok());
    REQUIRE(::link(data.c_str(), link.c_str()) == 0);
    place.check_refused(place.source, {place.out, true, {link}}, "is what this run reads as");
    REQUIRE(remove_tree(place.out).ok());
    REQUIRE(make_directory(place.out + ".old").ok());
    REQUIRE(write_file_synced(place.out + ".old/data.jsonl", "text").ok());
    place.check_refused(place.source, {place.out, true, {place.out + ".old/data.jsonl"}}, "which this run reads");
    CHECK(run(place.source, {place.out, true}).ok()); // a DST.old that nobody needs is not touched
    CHECK(path_exists(place.out + ".old/data.jsonl"));
    CHECK(read_folder(place.out) == place.result);
}

TEST_CASE("what no run made and no checkpoint has is named, and nothing is removed") {
    struct Case {
        const char * file; // beside those of a checkpoint, in `out` and a suffix
        const char * words;
    };
    const Case cases[] = {
        {"/cat.jpg", "/out/cat.jpg is no part of a checkpoint"},
        {"/photos/cat.jpg", "/out/photos is no part of a checkpoint"},
        {"/images/cat.jpg", "/out/images/cat.jpg is no part of a checkpoint"}, // the source has such a folder
        {"/.env", "/out/.env is no part of a checkpoint"},
        {"/.git/HEAD", "/out/.git is no part of a checkpoint"},
        {"/x.safetensors/y", "/out/x.safetensors is no part of a checkpoint"},
        {"/journal", "/out/journal is no part of a checkpoint"},
    };
    for (const Case & item : cases) {
        const Place place;
        place.copy_result(place.out);
        const std::string file = place.out + item.file;
        if (!is_directory(parent_path(file))) REQUIRE(make_directory(parent_path(file)).ok());
        REQUIRE(write_file_synced(file, "mine").ok());
        place.check_refused(place.source, {place.out}, item.words);
    }
    const Place place;
    place.copy_result(place.out);
    REQUIRE(make_directory(place.out + "/.git").ok());
    REQUIRE(write_file_synced(place.out + "/#notes", "mine").ok()); // sorts before
    place.check_refused(place.source, {place.out}, "/out/.git is no part");
    REQUIRE(remove_tree(place.out).ok());
    place.copy_result(place.out);
    REQUIRE(mkfifo((place.out + "/tokenizer.model").c_str(), 0666) == 0);
    const Status status = run(place.source, {place.out});
    CHECK(status.message().find("tokenizer.model is no part") != std::string::npos);
    CHECK(path_exists(place.out + "/model.safetensors.index.json"));
}

TEST_CASE("large files of an old checkpoint go side by side, after all others were looked at") {
    const Place place;
    const auto add_large = [&](const std::string & name) {
        const std::string path = join_path(place.out, name);
        REQUIRE(write_file_synced(path, "old").ok());
        REQUIRE(truncate(path.c_str(), 65 << 20) == 0); // a hole
    };
    place.copy_result(place.out);
    for (int i = 0; i < 12; i++) add_large("old-" + std::to_string(i) + ".safetensors");
    REQUIRE(write_file_synced(place.out + "/zebra.cc", "mine").ok());
    const size_t before = list_directory(place.out).take().size();
    CHECK_FALSE(run(place.source, {place.out}).ok());
    CHECK(list_directory(place.out).take().size() == before);
    REQUIRE(remove_file(place.out + "/zebra.cc").ok());
    REQUIRE(run(place.source, {place.out}).ok());
    CHECK(read_folder(place.out) == place.result);
    CHECK_FALSE(path_exists(place.out + ".partial"));
}

TEST_CASE("DST.partial that no run left stays, and one that a run left goes") {
    const Place place;
    const std::string partial = place.out + ".partial", journal = partial + "/journal";
    REQUIRE(make_directory(partial).ok());
    CHECK(run(place.source, {place.out, false}).code() == Code::already_exists);
    CHECK(run(place.source, {place.out}).ok()); // it was empty
    CHECK_FALSE(path_exists(partial));

    REQUIRE(make_directory(partial).ok());
    REQUIRE(write_file_synced(partial + "/notes.txt", "mine").ok());
    place.check_refused(place.source, {place.out}, "holds notes.txt and no journal");
    for (const char * text : {"my diary\n", ""}) {
        REQUIRE(write_file_synced(journal, text).ok());
        place.check_refused(place.source, {place.out}, "will not be removed");
        REQUIRE(remove_file(journal).ok());
    }
    // A journal vouches for what it lists and for what is part of a checkpoint.
    REQUIRE(write_file_synced(journal, "ggml-nvfp4 journal 1\nplan 1\nsource 2\n").ok());
    place.check_refused(place.source, {place.out}, "notes.txt is no part of a checkpoint");
    REQUIRE(remove_file(journal).ok());
    REQUIRE(write_file_synced(journal, "ggml-nvfp4 journal 1\nplan 1\nsource 2\nfile \"notes.txt\"\ndone 1\n").ok());
    CHECK(run(place.source, {place.out}).ok());
    CHECK(read_folder(place.out) == place.result);
    CHECK_FALSE(path_exists(partial));

    REQUIRE(write_file_synced(place.out + ".journal", "my diary\n").ok());
    place.check_refused(place.source, {place.out}, "needs this name for its journal");
}

TEST_CASE("a second run to the same destination is refused while the first is at work") {
    const Place place;
    for (const bool overwrite : {true, false}) {
        for (const bool with_old : {false, true}) {
            if (with_old) place.copy_result(place.out);
            if (with_old && !overwrite) continue;
            Request request{place.out};
            int calls = 0;
            request.progress = [&] {
                if (calls++) return true;
                const Status second = run(place.source, {place.out, overwrite});
                CHECK(second.code() == Code::already_exists);
                CHECK(second.message().find("another run writes " + place.out) != std::string::npos);
                PlanOptions dry; // says so, too, and does not disturb the first
                dry.recipe.scheme = &formats::nvfp4a16;
                dry.destination = place.out, dry.overwrite = overwrite;
                const Plan plan = make_plan(place.source, dry).take();
                CHECK(plan.warnings.back().find("another run writes") != std::string::npos);
                return true;
            };
            CHECK(run(place.source, request).ok());
            CHECK(calls > 0);
            CHECK(read_folder(place.out) == place.result);
            REQUIRE(remove_tree(place.out).ok());
        }
    }
}

TEST_CASE("what a run made must be there when it gets its name") {
    const Place planned;
    const auto is_shard = [](const auto & file) { return ends_with(file.first, ".safetensors"); };
    const std::string shard = "/" + std::find_if(planned.result.begin(), planned.result.end(), is_shard)->first;
    struct Case {
        const char * name;
        std::function<void(const std::string & partial)> harm;
        const char * words;
    };
    const Case cases[] = {
        {"a shard is removed", [&](const std::string & partial) { REQUIRE(remove_file(partial + shard).ok()); },
         ".safetensors was moved or removed during the run"},
        {"a shard is replaced by its like",
         [&](const std::string & partial) {
             REQUIRE(rename_path(partial + shard, partial + "/x").ok());
             REQUIRE(copy_file_synced(partial + "/x", partial + shard).ok());
             REQUIRE(remove_file(partial + "/x").ok());
         },
         ".safetensors was replaced during the run"},
        {"a shard grows",
         [&](const std::string & partial) { REQUIRE(truncate((partial + shard).c_str(), 100'000'000) == 0); },
         ".safetensors got another size during the run"},
        {"the journal is removed", [](const std::string & partial) { REQUIRE(remove_file(partial + "/journal").ok()); },
         "journal was moved or removed during the run"},
        {"the folder is moved",
         [](const std::string & partial) { REQUIRE(rename_path(partial, partial + "-moved").ok()); },
         ".partial was moved or removed during the run"},
        {"the folder is replaced",
         [](const std::string & partial) {
             REQUIRE(rename_path(partial, partial + "-moved").ok());
             REQUIRE(make_directory(partial).ok());
             REQUIRE(write_file_synced(partial + "/journal", "ggml-nvfp4 journal 1\n").ok());
         },
         ".partial was replaced during the run"},
    };
    for (const Case & item : cases) {
        const Place place;
        CAPTURE(item.name);
        Request request{place.out};
        int calls = 0;
        request.progress = [&] {
            if (calls++ == 0) item.harm(place.out + ".partial");
            return true;
        };
        const Status status = run(place.source, request);
        CAPTURE(status.message());
        CHECK(status.code() == Code::io);
        CHECK(status.message().find(item.words) != std::string::npos);
        CHECK_FALSE(path_exists(place.out));
    }
    // What a user put into an old checkpoint during the run is not removed with it.
    const Place place;
    place.copy_result(place.out);
    Request request{place.out};
    request.progress = [&] {
        if (!path_exists(place.out + "/cat.jpg")) REQUIRE(write_file_synced(place.out + "/cat.jpg", "cat").ok());
        return true;
    };
    const Status status = run(place.source, request);
    CAPTURE(status.message());
    CHECK(status.message().find("the result is complete in " + place.out + ".partial") != std::string::npos);
    CHECK(status.message().find("cat.jpg") != std::string::npos);
    CHECK(path_exists(place.out + "/cat.jpg"));
    REQUIRE(remove_file(place.out + "/cat.jpg").ok());
    CHECK(run(place.source, {place.out}).ok());
}

TEST_CASE("a source that is written with its time stamps put back is noticed, shard by shard") {
    for (const char * name : {"model-00001-of-00002.safetensors", "config.json", "tokenizer.json", "images/a.png"}) {
        const Place place;
        CAPTURE(name);
        const std::string path = join_path(place.source, name);
        struct stat before;
        REQUIRE(stat(path.c_str(), &before) == 0);
        Request request{place.out};
        int calls = 0;
        request.progress = [&] {
            if (calls++) return true;
            const File file = File::open_write(path).take();
            REQUIRE(file.write(" ", 1, before.st_size > 1 ? uint64_t(before.st_size) - 1 : 0).ok());
            const timespec times[2] = {before.st_atim, before.st_mtim};
            REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
            return true;
        };
        const Status status = run(place.source, request);
        CAPTURE(status.message());
        CHECK(status.code() == Code::changed);
        CHECK(status.message().find(name) != std::string::npos);
        CHECK_FALSE(path_exists(place.out));
    }
}

// Needs the right to mount; elsewhere it says so.
TEST_CASE("mount points are found before anything is written") {
    const Place place;
    place.copy_result(place.out);
    const auto in_child = [&](const std::string & mount_point, bool bind, const char * words) {
        const pid_t child = fork();
        if (child == 0) {
            if (unshare(CLONE_NEWNS) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) _exit(77);
            const int mounted = bind ? mount(mount_point.c_str(), mount_point.c_str(), nullptr, MS_BIND, nullptr)
                                     : mount("none", mount_point.c_str(), "tmpfs", 0, nullptr);
            if (mounted != 0) _exit(77);
            const Status status = run(place.source, {place.out});
            const bool good = !status.ok() && status.message().find(words) != std::string::npos;
            if (!good) fprintf(stderr, "%s\n", status.message().c_str());
            _exit(good ? 0 : 1);
        }
        int result = -1;
        REQUIRE(waitpid(child, &result, 0) == child);
        REQUIRE(WIFEXITED(result));
        if (WEXITSTATUS(result) == 77) {
            MESSAGE("not tested: no right to mount");
        } else {
            CHECK(WEXITSTATUS(result) == 0);
        }
    };
    in_child(place.out, false, "is a mount point");
    in_child(place.out, true, "is a mount point");
    in_child(place.out + "/images", true, "images is a mount point");
    in_child(place.out + "/config.json", true, "config.json is a mount point");
    REQUIRE(make_directory(place.out + ".partial").ok());
    in_child(place.out + ".partial", false, "is a mount point");
    CHECK(read_folder(place.out) == place.result);
    REQUIRE(remove_tree(place.out).ok());
    CHECK(run(place.source, {place.out}).ok());
}

TEST_CASE("a folder in which nothing may be renamed is found before anything is written") {
    const Place place;
    REQUIRE(make_directory(place.scratch / "shared").ok());
    const std::string out = place.scratch / "shared/out";
    place.copy_result(out);
    const pid_t child = fork();
    if (child == 0) { // another user, in a folder like /tmp
        if (chmod((place.scratch / "shared").c_str(), 01777) != 0) _exit(77);
        if (chmod(place.scratch.path().c_str(), 0755) != 0) _exit(77);
        if (setgid(65534) != 0 || setuid(65534) != 0) _exit(77);
        const Status status = run(place.source, {out});
        const bool good = status.message().find("belongs to another user") != std::string::npos ||
                          status.message().find("cannot remove anything from") != std::string::npos;
        if (!good) fprintf(stderr, "%s\n", status.message().c_str());
        _exit(good && !path_exists(out + ".partial") ? 0 : 1);
    }
    int result = -1;
    REQUIRE(waitpid(child, &result, 0) == child);
    REQUIRE(WIFEXITED(result));
    CHECK((WEXITSTATUS(result) == 0 || WEXITSTATUS(result) == 77));
    CHECK(read_folder(out) == place.result);
}
