#include "api/text/picture_config.h"

namespace gnv::api {

Result<PictureConfig> read_picture_config(const std::string & path, bool with_processor) {
    PictureConfig read;
    GNV_ASSIGN(const std::shared_ptr<const Folder> folder, open_folder(path));
    GNV_ASSIGN(const JsonDocument config, read_config(*folder));
    GNV_ASSIGN(read.vision, make_vision_model(config.root()));
    if (!read.vision.tower) return fail(Code::unsupported, path, " has no vision tower: it takes text, no pictures");
    if (with_processor) {
        GNV_ASSIGN(read.processor, read_processor_config(*folder));
    }
    return read;
}

Result<PictureWords> picture_words(const Tokenizer & tokenizer, const PictureTokens & tokens) {
    PictureWords words;
    const struct {
        int32_t id;
        std::string & word;
    } pairs[] = {
        {tokens.image, words.image}, {tokens.video, words.video}, {tokens.start, words.start}, {tokens.end, words.end}};
    for (const auto & [id, word] : pairs) {
        if (id < 0)
            return Status(Code::unsupported, "config.json lacks one of image_token_id, video_token_id, "
                                             "vision_start_token_id and vision_end_token_id");
        GNV_ASSIGN(word, tokenizer.decode_bytes({&id, 1}));
    }
    return words;
}

} // namespace gnv::api
