// Prompts that the small checkpoint answers in a few tokens, and answers of it and of its result.
#pragma once

#include "canary/canary.h"
#include "verify/verify_fixture.h"

namespace gnv::test {

inline std::vector<std::string> short_prompts() {
    return {"What does the following option do?",
            "What is a shard?",
            "What is in the picture?",
            "What does the option do?",
            "Which shape is in the picture?",
            "What is in the image?",
            "What is in the file?",
            "What does the picture show?"};
}

inline canary::CanaryOptions short_answers(int64_t tokens = 40) {
    canary::CanaryOptions options;
    options.prompts = short_prompts();
    options.max_tokens = tokens;
    return options;
}

inline canary::Canary answer(std::shared_ptr<const Folder> folder, const canary::CanaryOptions & options,
                             ThreadPool & threads = two_threads()) {
    Result<canary::Canary> result = canary::run_canary(std::move(folder), tiny, threads, options);
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    return result.take();
}

} // namespace gnv::test
