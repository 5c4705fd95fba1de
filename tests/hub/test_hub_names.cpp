// What a server may name: repositories, revisions, files, sizes and hashes.
#include "hub/card/hub_names.h"
#include "hub/content_hash.h"
#include "hub/model_files.h"
#include "hub/repository.h"

#include <doctest/doctest.h>

using namespace gnv;

TEST_CASE("names of files that a server sends are relative paths of ordinary parts") {
    for (const char * name : {"config.json", "a/b/c.parquet", "data/train-00000-of-00001.parquet", ".gitattributes",
                              "Модель.txt", "a b.txt", "..a", "a..", "x.git"})
        CHECK_MESSAGE(check_remote_name("org/name", name).ok(), name);
    const std::pair<std::string, const char *> bad[] = {
        {"", "is empty"},
        {"../x", "leads out of its folder"},
        {"a/../../x", "leads out of its folder"},
        {"a/./b", "leads out of its folder"},
        {"/etc/passwd", "is an absolute path"},
        {"a//b", "has an empty part"},
        {"a/", "has an empty part"},
        {"a\\..\\b", "has a backslash"},
        {std::string("a\0b", 3), "has a control character"},
        {"a\nb", "has a control character"},
        {".git/config", "has the part .git"},
        {std::string(256, 'a'), "has a part longer than 255 bytes"},
        {std::string(1025, 'a'), "is longer than 1,024 bytes"},
        {"\xff\xfe", "is no valid UTF-8"},
    };
    for (const auto & [name, why] : bad) {
        const Status status = check_remote_name("org/name", name);
        CHECK_MESSAGE(status.code() == Code::format, name);
        CHECK_MESSAGE(status.message().find(why) != std::string::npos, status.message());
        CHECK(status.message().find("org/name: the hub names a file \"") == 0);
    }
}

TEST_CASE("names of repositories, with a revision") {
    const RepositoryName name = parse_repository_name(RepositoryKind::dataset, "some-org/a.b_c@refs/pr/1").take();
    CHECK(name.text() == "some-org/a.b_c");
    CHECK(name.revision == "refs/pr/1");
    CHECK(name.cache_folder() == "datasets--some-org--a.b_c");
    CHECK(name.api_path() == "/api/datasets/some-org/a.b_c");
    CHECK(name.web_path() == "/datasets/some-org/a.b_c");
    CHECK(parse_repository_name(RepositoryKind::model, "a/b").value().revision == "main");
    for (const char * text :
         {"", "a", "a/", "/a", "a/b/c", "a/..", "../a", "a/b@", "a/b@../x", "a/b@/x", "a b/c", "-a/b", "a--b/c"})
        CHECK_MESSAGE(!parse_repository_name(RepositoryKind::model, text).ok(), text);
    CHECK(escape_path("a b/ü%?#") == "a%20b/%C3%BC%25%3F%23");
    CHECK(escape_word("refs/pr/1") == "refs%2Fpr%2F1");
}

TEST_CASE("a list of files with a bad commit, name, size or hash is refused by the name of the file") {
    const std::string commit(40, 'a'), sha(64, 'b');
    const auto list = [&](const std::string & files, std::string sha1) {
        return parse_listing("{\"sha\":\"" + sha1 + "\",\"siblings\":[" + files + "]}", "org/name");
    };
    const std::string small = R"({"rfilename":"z.json","size":5,"blobId":")" + commit + "\"}";
    const std::string large = R"({"rfilename":"a.safetensors","size":7,"lfs":{"sha256":")" + sha + "\",\"size\":7}}";
    const RemoteListing good = list(small + "," + large, commit).take();
    REQUIRE(good.files.size() == 2);
    CHECK(good.files[0].name == "a.safetensors");
    CHECK(good.files[0].hash == sha);
    CHECK(good.files[1].hash == commit);
    CHECK(bytes_of(good.files) == 12);

    const auto message = [&](const std::string & files, const std::string & sha1) {
        const Result<RemoteListing> listing = list(files, sha1);
        CHECK(listing.status().code() == Code::format);
        return listing.status().message();
    };
    CHECK(message(small, "../../etc").find("the hub's commit is \"../../etc\"") != std::string::npos);
    CHECK(message(small + "," + small, commit).find("names z.json twice") != std::string::npos);
    CHECK(message(R"({"rfilename":"../../x","size":5,"blobId":")" + commit + "\"}", commit).find("leads out") !=
          std::string::npos);
    CHECK(message(R"({"rfilename":"x","size":-1,"blobId":")" + commit + "\"}", commit).find("x has -1 bytes") !=
          std::string::npos);
    CHECK(message(R"({"rfilename":"x","size":4611686018427387904,"blobId":")" + commit + "\"}", commit)
              .find("x has 4611686018427387904 bytes") != std::string::npos);
    CHECK(message(R"({"rfilename":"x","size":1,"blobId":"../x"})", commit).find("hash of x is \"../x\"") !=
          std::string::npos);
    CHECK(message(R"({"rfilename":"x"})", commit).find("no size and hash of x") != std::string::npos);
    CHECK(!parse_listing("<html>", "org/name").ok());
}

TEST_CASE("hashes as Git and Git LFS give them") {
    // printf 'hello\n' | git hash-object --stdin; printf 'hello\n' | sha256sum
    const std::string git = "ce013625030ba8dba906f756967f9e9ca394464a";
    const std::string sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    for (const std::string & wanted : {git, sha}) {
        ContentHash hash(wanted, 6);
        hash.update("hel", 3);
        hash.update("lo\n", 3);
        CHECK(hash.finish() == wanted);
    }
}

TEST_CASE("of a repository the safetensors, configs and texts are needed, and not the same weights again") {
    RemoteListing listing;
    for (const char * name : {"config.json", "model-1.safetensors", "model-2.safetensors", "consolidated.safetensors",
                              "model.safetensors.index.json", "pytorch_model.bin", "model.gguf", "onnx/model.onnx",
                              "original/model.safetensors", "README.md", "LICENSE", "tokenizer.json", "figure.png",
                              "additional_chat_templates/tool.jinja", "x.pth"})
        listing.files.push_back({name, 10, std::string(40, 'a')});
    FileChoice choice = choose_model_files(listing);
    const auto names = [](const std::vector<RemoteFile> & files) {
        std::string out;
        for (const RemoteFile & file : files) out += file.name + " ";
        return out;
    };
    CHECK(names(choice.small) == "config.json model.safetensors.index.json README.md LICENSE tokenizer.json "
                                 "additional_chat_templates/tool.jinja ");
    CHECK(names(choice.weights) == "model-1.safetensors model-2.safetensors consolidated.safetensors ");
    CHECK(describe_files(choice.left_out) ==
          "6 files, 60 B: pytorch_model.bin, model.gguf, onnx/model.onnx, original/model.safetensors, ...");
}
