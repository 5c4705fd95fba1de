// Weights on their way to a device: copies wait for what they have to wait for, and for nothing else. The device is made of
// the CPU (deferred_device.h).
#include "faults/small_model.h"
#include "forward/deferred_device.h"
#include "forward/forward_fixture.h"
#include "load_group.h"
#include "run/weight_stream.h"

#include <thread>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

using Bytes = std::vector<uint8_t>;

// A stream with one upload.
struct Reader {
    std::unique_ptr<WeightStream> stream;
    WeightUpload upload; // ends before the stream
    Reader(Backend & device, uint64_t bytes)
        : stream(WeightStream::create(device, {bytes, 2}, nullptr).take()), upload(device) {}
    Status add_buffer() { return stream->add_buffer(); }
    Status start(std::vector<WeightLoad> loads, void * target = nullptr) {
        GNV_TRY(upload.expect(*stream, target));
        return stream->start(std::move(loads));
    }
    void send(size_t calls) { upload.send(*stream, calls); }
    Result<std::vector<WeightGroup>> finish(void * memory) {
        GNV_TRY(stream->finish());
        return upload.finish(*stream, memory);
    }
};

struct Fixture {
    std::unique_ptr<OpenModel> model;
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    DeferredDevice device{*threads};
    uint64_t bytes = 0; // of the larger of two layers

    explicit Fixture(const std::string & folder = tiny_folder) : model(open_model(folder)) {
        for (const int32_t layer : {0, 1}) bytes = std::max(bytes, load(layer).group.bytes());
    }
    std::vector<WeightRef> refs(int32_t layer) const {
        return weights_of(*model->model, model->model->block_stages(layer));
    }
    WeightLoad load(int32_t layer) const {
        return {WeightGroup::plan(model->weights, refs(layer)).take(), &model->weights, &model->files};
    }
    std::unique_ptr<Reader> reader(int buffers) {
        auto reader = std::make_unique<Reader>(device, bytes);
        if (buffers == 2) CHECK(reader->add_buffer().ok());
        return reader;
    }
    DeviceMemory memory() { return device.allocate(bytes).take(); }
    // What a layer's weights are, without what is between them.
    Bytes weights(int32_t layer, void * memory) {
        const WeightGroup group = load(layer).group.at(memory);
        Bytes out;
        for (const WeightRef & ref : refs(layer)) {
            const Tensor tensor = group.find(ref);
            const uint8_t * const data = tensor.as<const uint8_t>();
            out.insert(out.end(), data, data + tensor_bytes(tensor.dtype, tensor.shape));
        }
        return out;
    }
    Bytes expected(int32_t layer) {
        Bytes block(bytes + 64);
        uint8_t * const memory = block.data() + (64 - reinterpret_cast<uintptr_t>(block.data()) % 64);
        WeightLoad from = load(layer);
        GNV_CHECK(load_group(from.group, *from.catalog, *from.files, memory, *threads).ok());
        return weights(layer, memory);
    }
    // After what is queued to compute.
    Bytes found(int32_t layer, const DeviceMemory & memory) {
        Bytes block(bytes);
        device.download(block.data(), memory.get(), bytes);
        CHECK(device.synchronize().ok());
        return weights(layer, block.data());
    }
    // Until all is read, which the first share shows.
    void send_first(Reader & reader, size_t calls) {
        const uint64_t before = device.uploads;
        for (int i = 0; i < 10'000 && device.uploads == before; i++) {
            reader.send(calls);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        REQUIRE(device.uploads == before + 1);
    }
};

} // namespace

TEST_CASE("weights come to the device in any number of shares, before they are asked for or after") {
    for (const bool eager : {false, true}) {
        Fixture f;
        f.device.eager_copies = eager;
        const DeviceMemory target = f.memory();
        const auto reader = f.reader(2);
        const Bytes expected = f.expected(1);
        for (const size_t calls : {1, 2, 7}) {
            CAPTURE(calls);
            f.device.clear(target.get(), f.bytes);
            const uint64_t before = f.device.uploads;
            REQUIRE(reader->start({f.load(1)}, target.get()).ok());
            f.send_first(*reader, calls);
            for (size_t call = calls - 1; call > 0; call--) reader->send(call);
            reader->send(1); // nothing is left
            CHECK(f.device.uploads == before + calls);
            const auto loaded = reader->finish(target.get());
            REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
            CHECK(f.device.uploads == before + calls);
            CHECK(f.found(1, target) == expected);
        }
        // Some shares, the rest at the end; or all of it.
        REQUIRE(reader->start({f.load(0)}, target.get()).ok());
        f.send_first(*reader, 5);
        reader->send(4);
        REQUIRE(reader->finish(target.get()).ok());
        CHECK(f.found(0, target) == f.expected(0));
        const uint64_t before = f.device.uploads;
        REQUIRE(reader->start({f.load(1)}).ok());
        reader->send(1); // no target, no copy
        CHECK(f.device.uploads == before);
        REQUIRE(reader->finish(target.get()).ok());
        CHECK(f.device.uploads == before + 1);
        CHECK(f.found(1, target) == expected);
        reader->send(1); // nothing was started
        CHECK(f.device.uploads == before + 1);
    }
}

// The first device copies as early as the rules allow, the second as late.
TEST_CASE("weights of a second device come from the first, which keeps them until they are there") {
    for (const size_t shares : {size_t(0), size_t(1), size_t(3)}) { // 0: no target, all at the end
        CAPTURE(shares);
        Fixture f;
        f.device.eager_copies = true;
        DeferredDevice second(*f.threads, 1);
        const DeviceMemory here = f.memory();
        const DeviceMemory there[] = {second.allocate(f.bytes).take(), second.allocate(f.bytes).take()};
        const auto reader = f.reader(2);
        WeightUpload follower(second);
        follower.follow(reader->upload);
        for (const int32_t layer : {0, 1}) {
            void * const memory = there[layer].get();
            REQUIRE(reader->upload.expect(*reader->stream, shares > 0 ? here.get() : nullptr).ok());
            REQUIRE(follower.expect(*reader->stream, shares > 0 ? memory : nullptr).ok());
            REQUIRE(reader->stream->start({f.load(layer)}).ok());
            if (shares > 0) f.send_first(*reader, shares);
            for (size_t left = shares; left > 1; left--) {
                follower.send(*reader->stream, 1); // what the first has by now
                reader->send(left - 1);
            }
            REQUIRE(reader->finish(here.get()).ok());
            const std::vector<WeightGroup> groups = follower.finish(*reader->stream, memory);
            CHECK(groups.size() == 1);
        }
        for (const int32_t layer : {0, 1}) {
            Bytes block(f.bytes);
            second.download(block.data(), there[layer].get(), f.bytes);
            REQUIRE(second.synchronize().ok());
            CHECK(f.weights(layer, block.data()) == f.expected(layer));
        }
        CHECK(f.found(1, here) == f.expected(1));
        CHECK(second.copied == f.load(0).group.bytes() + f.load(1).group.bytes());
        CHECK(second.uploads == 0);
    }
}

TEST_CASE("weights stay on the device until what was queued before is done with them, and no longer") {
    Fixture f;
    f.device.eager_copies = true;
    const DeviceMemory target = f.memory(), used = f.memory(), other = f.memory();
    const auto reader = f.reader(2);
    REQUIRE(reader->start({f.load(0)}).ok());
    REQUIRE(reader->finish(target.get()).ok());
    SUBCASE("with a target: before start()") {
        f.device.copy(used.get(), target.get(), f.bytes);
        REQUIRE(reader->start({f.load(1)}, target.get()).ok());
        f.device.clear(other.get(), f.bytes); // does not hold the copy up
        f.send_first(*reader, 1);
        CHECK(f.device.waiting(Queue::upload) == 0);
        CHECK(f.device.waiting(Queue::compute) == 1);
        REQUIRE(reader->finish(target.get()).ok());
    }
    SUBCASE("without one: before finish()") {
        REQUIRE(reader->start({f.load(1)}).ok());
        f.device.copy(used.get(), target.get(), f.bytes);
        REQUIRE(reader->finish(target.get()).ok());
        CHECK(f.device.waiting(Queue::upload) == 0);
    }
    CHECK(f.found(0, used) == f.expected(0));
    CHECK(f.found(1, target) == f.expected(1));
}

TEST_CASE("host memory is not read into before it was copied") {
    for (const int buffers : {1, 2}) {
        CAPTURE(buffers);
        Fixture f;
        const auto reader = f.reader(buffers);
        DeviceMemory targets[4];
        for (int i = 0; i < 4; i++) {
            targets[i] = f.memory();
            const bool early = i % 2 == 1;
            REQUIRE(reader->start({f.load(i % 3 % 2)}, early ? targets[i].get() : nullptr).ok());
            if (early) f.send_first(*reader, 1);
            REQUIRE(reader->finish(targets[i].get()).ok());
            CHECK(f.device.waiting(Queue::upload) > 0); // nobody has waited for this one
        }
        for (int i = 0; i < 4; i++) CHECK(f.found(i % 3 % 2, targets[i]) == f.expected(i % 3 % 2));
    }
}

TEST_CASE("a second buffer that comes while the first is read into") {
    Fixture f;
    const auto reader = f.reader(1);
    const DeviceMemory targets[] = {f.memory(), f.memory(), f.memory()};
    for (const int32_t layer : {0, 1, 0}) {
        const bool is_first = f.device.uploads == 0;
        void * const target = targets[f.device.uploads].get();
        REQUIRE(reader->start({f.load(layer)}).ok());
        if (is_first) REQUIRE(reader->add_buffer().ok());
        const auto loaded = reader->finish(target);
        REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
    }
    CHECK(f.device.host_peak() == 2 * f.bytes);
    for (const int i : {0, 1, 2}) CHECK(f.found(i % 2, targets[i]) == f.expected(i % 2));
}

TEST_CASE("what is given up on its way does not get into what comes after it") {
    for (const int buffers : {1, 2}) {
        Fixture f;
        const DeviceMemory target = f.memory();
        const auto reader = f.reader(buffers);
        REQUIRE(reader->start({f.load(0)}, target.get()).ok());
        f.send_first(*reader, 3);
        REQUIRE(reader->start({f.load(1)}, target.get()).ok());
        REQUIRE(reader->finish(target.get()).ok());
        CHECK(f.found(1, target) == f.expected(1));
    }
}

TEST_CASE("reading fails while a copy is under way") {
    const ScratchFolder scratch;
    write_small_model(scratch / "model");
    Fixture f(scratch / "model");
    const Bytes expected = f.expected(0);
    const DeviceMemory first = f.memory(), second = f.memory();
    {
        const auto reader = f.reader(2);
        REQUIRE(reader->start({f.load(0)}).ok());
        REQUIRE(reader->finish(first.get()).ok());
        for (const DirectoryEntry & entry : list_directory(scratch / "model").take())
            if (ends_with(entry.name, ".safetensors"))
                REQUIRE(truncate((scratch / "model/" + entry.name).c_str(), 100) == 0);
        REQUIRE(reader->start({f.load(1)}, second.get()).ok());
        const uint64_t before = f.device.uploads;
        std::this_thread::sleep_for(std::chrono::milliseconds(20)); // it has failed by now, most likely
        reader->send(1);
        const Status failed = reader->finish(second.get()).take_status();
        CHECK_MESSAGE(failed.message().find(".safetensors") != std::string::npos, failed.message());
        CHECK(!failed.ok());
        CHECK(f.device.uploads == before);
        CHECK(f.device.waiting(Queue::upload) > 0); // and the reader goes
    }
    CHECK(f.device.waiting(Queue::upload) == 0);
    CHECK(f.found(0, first) == expected);
}
