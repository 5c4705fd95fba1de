// Pictures and videos on a failing machine: a status, no file left open, and no picture of half the bytes.
#include "faults/fault_loop.h"

#include "images/video.h"

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr const char * files[] = {"rgba8-interlaced.png", "grey16.png",          "ycc420-progressive.jpg", "cmyk.jpg",
                                  "lossy-alpha.webp",     "animated-offset.webp"};

// A folder of frames, and what they become when nothing fails.
struct Film {
    ScratchFolder scratch;
    VideoProcessorConfig config;
    std::vector<float> values;

    Film() {
        config.frames.max_pixels = 1 << 14, config.frames.min_pixels = 1;
        config.min_frames = config.max_frames = 5;
        for (size_t i = 0; i < 5; i++) {
            const std::string path = concat(GNV_TEST_DATA, "/images/", files[i]);
            scratch.save(concat(i, files[i]), read_file(path, 1 << 20).take());
        }
        REQUIRE(run(values).ok());
    }

    Status run(std::vector<float> & out) const {
        return guard_exceptions([&]() -> Status { // as the C API does
            GNV_ASSIGN(const std::shared_ptr<const Folder> folder, open_folder(scratch.path()));
            GNV_ASSIGN(const VideoPlan plan, plan_video(config, *folder, 2));
            out.assign(plan.patches.values(config.frames), 0);
            GNV_TRY(preprocess_video(config, plan, *folder, out.data()));
            GNV_ASSIGN(const Image last, read_image(std::string(GNV_TEST_DATA "/images/") + files[5]));
            return {};
        });
    }
};

} // namespace

TEST_CASE("videos whose files or memory fail") {
    const Film film;
    const FaultCase cases[] = {{FAULT_OPEN, EIO, Expect::failure},
                               {FAULT_READ, EIO, Expect::failure},
                               {FAULT_READ, FAULT_SHORT, Expect::survival},
                               {FAULT_STAT, EIO, Expect::either},
                               {FAULT_MEMORY, ENOMEM, Expect::failure}};
    for (const FaultCase & fault_case : cases) {
        for_every_fault(fault_case, film.scratch.path(), [&](const fault_plan & fault) {
            std::vector<float> values;
            fault_arm(&fault);
            const Status status = film.run(values);
            Outcome outcome;
            outcome.fired = fault_fired();
            fault_arm(nullptr);
            outcome.status = gnv_status(status.code());
            outcome.message = status.message();
            if (status.ok()) {
                CHECK(values == film.values);
            } else {
                CHECK_MESSAGE(names_a_cause(status.message(), film.scratch.path()), status.message());
            }
            return outcome;
        });
    }
}
