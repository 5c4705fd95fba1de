// Hashes that are made beside a run: those of the files, in whatever order the bytes come; none of a file that changed; and
// the order of tensors that lets them follow.
#include "e2e/calibrated_fixture.h"
#include "output/checkpoint_writer.h"
#include "output/running_hashes.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <thread>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// Files of some megabytes, written in pieces.
struct Written {
    static constexpr uint64_t sizes[] = {9'000'001, 1, 5'000'000};
    ScratchFolder scratch;
    std::vector<File> files;
    std::vector<std::string> contents;
    std::vector<RunningHashes::Target> targets;

    Written() {
        uint32_t state = 1;
        for (size_t i = 0; i < std::size(sizes); i++) {
            std::string content(sizes[i], '\0');
            for (char & byte : content) byte = char((state = state * 1664525 + 1013904223) >> 24);
            contents.push_back(content);
            files.push_back(File::create(scratch / ("file" + std::to_string(i))).take());
        }
        for (size_t i = 0; i < files.size(); i++) targets.push_back({std::to_string(i), &files[i], sizes[i]});
    }
    std::unique_ptr<RunningHashes> start(int threads, Trace * trace = nullptr) const {
        return RunningHashes::create(targets, threads, trace).take();
    }
    Status write(RunningHashes & hashes, size_t file, uint64_t begin, uint64_t end) const {
        GNV_TRY(files[file].write(contents[file].data() + begin, end - begin, begin));
        return hashes.written(file, begin, end);
    }
    Status write_all(RunningHashes & hashes) const {
        for (size_t i = 0; i < files.size(); i++) GNV_TRY(write(hashes, i, 0, sizes[i]));
        return {};
    }
};

Status goes_on() { return {}; }

// Name -> hash of the card's table.
std::map<std::string, std::string> hashes_in_card(const std::string & card) {
    std::map<std::string, std::string> out;
    for (size_t at = card.find("## Files"); (at = card.find("\n| ", at)) != card.npos; at++) {
        const size_t name_end = card.find(" |", at + 3), hash = card.find('`', at), line = card.find('\n', at + 1);
        if (hash < line) out[card.substr(at + 3, name_end - at - 3)] = card.substr(hash + 1, 64);
    }
    return out;
}

} // namespace

TEST_CASE("hashes follow bytes that come in any order, from any thread") {
    for (const int threads : {1, 2, 5}) {
        CAPTURE(threads);
        const Written made;
        Trace trace;
        const std::unique_ptr<RunningHashes> hashes = made.start(threads, &trace);
        struct Piece {
            size_t file;
            uint64_t begin, end;
        };
        std::vector<Piece> pieces;
        uint32_t state = uint32_t(threads);
        for (size_t i = 0; i < made.files.size(); i++)
            for (uint64_t begin = 0; begin < Written::sizes[i];) {
                state = state * 1664525 + 1013904223;
                const uint64_t end = std::min(Written::sizes[i], begin + 1 + (state >> 8) % 700'000);
                pieces.push_back({i, begin, end});
                begin = end;
            }
        for (size_t i = pieces.size(); i > 1; i--) {
            state = state * 1664525 + 1013904223;
            std::swap(pieces[i - 1], pieces[(state >> 8) % i]);
        }
        std::vector<std::thread> writers;
        for (size_t w = 0; w < 3; w++)
            writers.emplace_back([&, w] {
                for (size_t i = w; i < pieces.size(); i += 3)
                    if (!made.write(*hashes, pieces[i].file, pieces[i].begin, pieces[i].end).ok()) abort();
            });
        for (std::thread & writer : writers) writer.join();
        REQUIRE(hashes->written(2, 17, 17).ok()); // a tensor without bytes
        const KnownHashes found = hashes->finish(goes_on).take();
        REQUIRE(found.size() == made.files.size());
        double bytes = 0;
        for (size_t i = 0; i < made.files.size(); i++) {
            const std::string & content = made.contents[i];
            CHECK(found.at(std::to_string(i)).sha256 == sha256_hex(content.data(), content.size()));
            CHECK(found.at(std::to_string(i)).stamp == made.files[i].stamp().take());
            bytes += double(content.size());
        }
        REQUIRE(trace.totals().size() == 1);
        CHECK(trace.totals()[0].work.bytes == bytes);
    }
}

TEST_CASE("a file that changes after its last byte was hashed has no hash") {
    const Written made;
    const std::unique_ptr<RunningHashes> hashes = made.start(2);
    REQUIRE(made.write_all(*hashes).ok());
    CHECK(hashes->finish(goes_on).take().size() == made.files.size());
    std::this_thread::sleep_for(std::chrono::milliseconds(50)); // the clock of stamps has ticked
    REQUIRE(made.files[0].write("x", 1, 4'000'000).ok());
    const KnownHashes found = hashes->finish(goes_on).take();
    CHECK(found.count("0") == 0);
    CHECK(found.count("1") == 1);
    CHECK(found.count("2") == 1);
}

TEST_CASE("a request to stop, a failing read and an early end leave nothing waiting") {
    const Written made;
    {
        const std::unique_ptr<RunningHashes> hashes = made.start(1);
        REQUIRE(hashes->written(0, 0, 5'000'000).ok()); // beyond the end of the file, which has no bytes yet
        for (int i = 0; i < 1000 && hashes->written(1, 0, 0).ok(); i++)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        const Status failed = hashes->written(1, 0, 0);
        CHECK(failed.code() == Code::format);
        CHECK_MESSAGE(failed.message().find(made.files[0].path() + " ends at byte 0") != std::string::npos,
                      failed.message());
    }
    {
        const std::unique_ptr<RunningHashes> hashes = made.start(1);
        REQUIRE(made.write_all(*hashes).ok());
    }
    // Enough work that the request comes before its end.
    const std::string large = made.scratch / "large";
    const File file = File::create(large).take();
    constexpr uint64_t size = uint64_t(4) << 30;
    REQUIRE(truncate(large.c_str(), off_t(size)) == 0);
    const std::unique_ptr<RunningHashes> hashes = RunningHashes::create({{"large", &file, size}}, 1, nullptr).take();
    REQUIRE(hashes->written(0, 0, size).ok());
    const auto stop = [] { return Status(Code::cancelled, "stopped on request"); };
    CHECK(hashes->finish(stop).status().code() == Code::cancelled);
}

TEST_CASE("tensors come in the order in which a run finishes them, if each is aligned then") {
    const auto tensor = [](const char * name, DType dtype, int64_t count, int32_t turn) {
        OutputTensor out;
        out.name = name, out.dtype = dtype, out.shape = {count}, out.turn = turn;
        out.bytes = uint64_t(count) * uint64_t(dtype_traits(dtype).bits) / 8;
        return out;
    };
    const auto order = [](const OutputLayout & layout) {
        std::string names;
        for (const uint32_t i : layout.shards.at(0).tensors) names += layout.tensors[i].name;
        return names;
    };
    const OutputLayout turns =
        lay_out({tensor("a", DType::u8, 8, 1), tensor("b", DType::f32, 1, 9), tensor("c", DType::f32, 1, 1),
                 tensor("d", DType::u8, 4, 2), tensor("e", DType::bf16, 2, 0), tensor("f", DType::bf16, 2, 2)},
                1 << 20);
    CHECK(order(turns) == "ecafdb");
    // Seven bytes before a number of four.
    const OutputLayout odd =
        lay_out({tensor("a", DType::u8, 7, 0), tensor("b", DType::f32, 1, 1), tensor("c", DType::bf16, 1, 2)}, 1 << 20);
    CHECK(order(odd) == "bca");
    for (const OutputLayout & layout : {turns, odd})
        for (const OutputTensor & each : layout.tensors)
            CHECK((each.offset - layout.shards[0].data_begin) % uint64_t(dtype_traits(each.dtype).bits / 8) == 0);
}

TEST_CASE("the shards that are finished last are smaller, so that their hashes catch up") {
    const auto layers = [](int32_t count, uint64_t each) {
        std::vector<OutputTensor> tensors;
        const auto add = [&](uint64_t bytes, int32_t turn) {
            OutputTensor & tensor = tensors.emplace_back();
            tensor.name = concat("t", tensors.size());
            tensor.bytes = bytes, tensor.turn = turn;
            tensor.shape = {int64_t(bytes)};
        };
        add(each, 0);
        for (int32_t layer = 1; layer <= count; layer++)
            for (int i = 0; i < 10; i++) {
                add(each / 10 - 4, layer);
                add(4, OutputTensor::last_turn);
            }
        for (int i = 0; i < 10; i++) add(each, 0); // made beside the first layers, though they stand at the end
        return tensors;
    };
    constexpr uint64_t most = 1'000'000;
    const OutputLayout layout = lay_out(layers(40, 100'000), most);
    std::vector<uint64_t> sizes;
    for (const OutputShard & shard : layout.shards) sizes.push_back(shard.file_bytes - shard.data_begin);
    REQUIRE(sizes.size() == 14);
    uint64_t left = layout.tensor_bytes() - most; // without those at the end
    for (size_t s = 0; s < 13; s++) {
        CAPTURE(s);
        CHECK(sizes[s] <= std::min(most, most / 32 + left / 4 + 100'000));
        CHECK((s == 0 || sizes[s] <= sizes[s - 1]));
        left -= std::min(left, sizes[s]);
    }
    CHECK(sizes[0] == most);
    CHECK(sizes[12] <= most / 16);
    CHECK(sizes[13] == most); // its tensors are not among the last
    CHECK(layout.last_file_bytes() == layout.shards[12].file_bytes);
    // All of it fits into one file: that is not cut.
    CHECK(lay_out(layers(9, 50'000), most).shards.size() == 1);
}

TEST_CASE("the card of a run has the hashes of its files") {
    const ScratchFolder scratch;
    CalibratedRun run;
    run.destination = scratch / "out";
    run.card = true;
    run.tokens = scratch.save("ids.json", tokens_text(short_samples(2)));
    for (const int threads : {1, 3}) {
        run.threads = threads;
        require_good(quantize(run));
        std::map<std::string, std::string> files = file_hashes(run.destination);
        REQUIRE(files.erase("README.md") == 1);
        CHECK(hashes_in_card(read_file(join_path(run.destination, "README.md"), 1 << 20).take()) == files);
        REQUIRE(remove_tree(run.destination).ok());
    }
}
