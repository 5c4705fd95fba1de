// The bytes of a saved text:
//
//   magic, version, bytes in all, SHA-256 of what tells the model, positions     SavedHeader
//   states in the order of the model, keys and values of the positions alone     TextStates::download
//   checksum of all before
#include "core/checksum.h"
#include "core/sha256.h"
#include "session/texts/shared_texts.h"

#include <cstring>

namespace gnv {

namespace {

constexpr char magic[8] = {'g', 'n', 'v', 't', 'e', 'x', 't', '\0'};
constexpr uint32_t version = 1;

struct SavedHeader {
    char magic[8];
    uint32_t version, unused;
    uint64_t bytes, positions;
    char model[64]; // hex digits
};

uint64_t bytes_with(uint64_t state_bytes) { return sizeof(SavedHeader) + state_bytes + sizeof(uint64_t); }

uint64_t checksum_of(const void * data, size_t size) {
    Checksum checksum;
    checksum.add(data, size);
    return checksum.finish();
}

} // namespace

uint64_t SharedTexts::saved_bytes(const SharedText & text) const {
    return bytes_with(session_.pool().states().text_bytes(text.state.past));
}

uint64_t SharedTexts::most_saved_bytes() const {
    return bytes_with(session_.pool().states().text_bytes(session_.pool_capacity()));
}

Result<std::string> SharedTexts::save(SharedText & text, const std::string & identity) {
    if (text.waiting() > 0)
        return fail(Code::invalid_argument, text.waiting(), " ids of the text wait: run steps before it is saved");
    if (text.draft) GNV_TRY(session_.settle(*text.draft));
    const PooledText & state = text.state;
    const TextStates & states = session_.pool().states();
    const std::string model = sha256_hex(identity.data(), identity.size());
    SavedHeader header = {};
    memcpy(header.magic, magic, sizeof magic);
    header.version = version;
    header.bytes = saved_bytes(text);
    header.positions = uint64_t(state.past);
    memcpy(header.model, model.data(), sizeof header.model);
    std::string bytes(size_t(header.bytes), '\0');
    memcpy(bytes.data(), &header, sizeof header);
    states.download(bytes.data() + sizeof header, state.slot, state.pages, state.past);
    GNV_TRY(session_.synchronize());
    const size_t summed = bytes.size() - sizeof(uint64_t);
    const uint64_t checksum = checksum_of(bytes.data(), summed);
    memcpy(bytes.data() + summed, &checksum, sizeof checksum);
    return bytes;
}

Result<std::unique_ptr<SharedText>> SharedTexts::restore(std::span<const uint8_t> bytes, const std::string & identity) {
    SavedHeader header = {};
    if (bytes.size() < sizeof header + sizeof(uint64_t) || memcmp(bytes.data(), magic, sizeof magic) != 0)
        return Status(Code::format, "this is not the state of a text");
    memcpy(&header, bytes.data(), sizeof header);
    if (header.version != version)
        return fail(Code::format, "the state of a text has version ", header.version, ", this library reads ", version);
    uint64_t checksum = 0;
    const size_t summed = bytes.size() - sizeof checksum;
    memcpy(&checksum, bytes.data() + summed, sizeof checksum);
    if (header.bytes != bytes.size() || checksum != checksum_of(bytes.data(), summed))
        return fail(Code::format, "the state of a text is damaged: it has ", bytes.size(), " bytes of ", header.bytes,
                    bytes.size() == header.bytes ? ", and another checksum" : "");
    if (sha256_hex(identity.data(), identity.size()) != std::string_view(header.model, sizeof header.model))
        return Status(Code::model, "the state is that of a text of another model, or of other options (precision, "
                                   "weights_only, cache_dtype, the kind of device): let the text run again");
    const int64_t capacity = session_.pool_capacity();
    if (header.positions > uint64_t(capacity))
        return fail(Code::invalid_argument, "the state has ", header.positions,
                    " positions, the model was opened for texts of ", capacity);
    const auto positions = int64_t(header.positions);
    TextPool & pool = session_.pool();
    if (header.bytes != bytes_with(pool.states().text_bytes(positions)))
        return fail(Code::format, "the state of a text has ", header.bytes, " bytes, not those of ", positions,
                    " positions of this model");
    GNV_ASSIGN(std::unique_ptr<SharedText> text, open());
    Status status = pool.reserve(text->state, positions);
    if (status.ok()) {
        text->state.past = positions;
        pool.states().upload(bytes.data() + sizeof header, text->state.slot, text->state.pages, positions);
        status = session_.synchronize(); // the caller's bytes may go
    }
    if (status.ok()) return text;
    close(*text);
    return status;
}

} // namespace gnv
