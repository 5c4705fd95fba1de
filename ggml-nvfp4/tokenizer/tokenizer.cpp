#include "tokenizer/tokenizer.h"

#include "core/utf8.h"
#include "formats/file.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/tokenizer_model.h"
#include "tokenizer/unicode.h"

namespace gnv {

static constexpr uint64_t largest_file = 256 << 20; // published ones have up to 40 MB
static constexpr size_t longest_text = size_t(1) << 30;
static constexpr size_t most_kept_normalized = 1 << 20;

// --- Loading --------------------------------------------------------------------------------------------------------------

// Older versions of Transformers list added tokens in a file of their own, without their flags.
static Status check_added_tokens(const std::string & path, const Tokenizer & tokenizer) {
    if (!path_exists(path)) return {};
    GNV_ASSIGN(const JsonDocument document, JsonDocument::read(path, largest_file, JsonKeys::last_wins));
    return document.root().for_each_member([&](std::string_view content, const JsonValue & value) -> Status {
        GNV_ASSIGN(const int64_t id, value.as_int());
        if (tokenizer.find(content) == id) return {};
        return fail(Code::unsupported, path, ": tokenizer_config.json does not list the token \"",
                    printable(content, 60),
                    "\" with its flags; save the tokenizer with Transformers, which writes a tokenizer.json");
    });
}

Result<Tokenizer> Tokenizer::load(const std::string & path) {
    const std::string file = is_directory(path) ? join_path(path, "tokenizer.json") : path;
    const std::string config_file = join_path(parent_path(file), "tokenizer_config.json");
    std::string config;
    if (path_exists(config_file)) {
        GNV_ASSIGN(config, read_file(config_file, largest_file));
    }
    const std::string vocab_file = join_path(path, "vocab.json"), merges_file = join_path(path, "merges.txt");
    if (is_directory(path) && !path_exists(file) && path_exists(vocab_file) && path_exists(merges_file)) {
        GNV_ASSIGN(std::string vocab, read_file(vocab_file, largest_file));
        GNV_ASSIGN(const std::string merges, read_file(merges_file, largest_file));
        GNV_ASSIGN(Tokenizer tokenizer, parse_parts(std::move(vocab), merges, path, std::move(config)));
        GNV_TRY(check_added_tokens(join_path(path, "added_tokens.json"), tokenizer));
        return tokenizer;
    }
    GNV_ASSIGN(std::string json, read_file(file, largest_file));
    return parse(std::move(json), file, std::move(config), config_file);
}

Result<Tokenizer> Tokenizer::parse(std::string json, const std::string & name, std::string config,
                                   const std::string & config_name) {
    const auto model = std::make_shared<TokenizerModel>();
    model->name = name;
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(json), name, JsonKeys::last_wins));
    GNV_TRY(read_tokenizer_file(document.root(), *model));
    if (!config.empty()) {
        GNV_ASSIGN(const JsonDocument config_document,
                   JsonDocument::parse(std::move(config), config_name, JsonKeys::last_wins));
        GNV_TRY(read_tokenizer_config(config_document.root(), *model));
    }
    index_added_tokens(*model);
    return Tokenizer(model);
}

Result<Tokenizer> Tokenizer::parse_parts(std::string vocab, const std::string & merges, const std::string & folder,
                                         std::string config) {
    const auto model = std::make_shared<TokenizerModel>();
    model->name = join_path(folder, "vocab.json");
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(vocab), model->name));
    const std::string config_name = join_path(folder, "tokenizer_config.json");
    GNV_ASSIGN(const JsonDocument config_document,
               JsonDocument::parse(config.empty() ? "{}" : std::move(config), config_name, JsonKeys::last_wins));
    GNV_TRY(
        read_tokenizer_parts(document.root(), merges, join_path(folder, "merges.txt"), config_document.root(), *model));
    GNV_TRY(read_tokenizer_config(config_document.root(), *model));
    index_added_tokens(*model);
    return Tokenizer(model);
}

// --- Tokens ---------------------------------------------------------------------------------------------------------------

TokenId Tokenizer::vocab_size() const { return model_->vocabulary.size(); }

bool Tokenizer::is_token(TokenId id) const { return model_->vocabulary.contains(id); }

bool Tokenizer::is_special(TokenId id) const { return model_->vocabulary.is_special(id); }

TokenId Tokenizer::find(std::string_view content) const {
    for (const AddedToken & token : model_->added_tokens)
        if (token.content == content) return token.id;
    return model_->vocabulary.find_bytes(content);
}

const TokenRoles & Tokenizer::roles() const { return model_->roles; }

Result<std::string> Tokenizer::decode_bytes(std::span<const TokenId> ids, bool skip_special) const {
    std::string bytes;
    for (size_t i = 0; i < ids.size(); i++) {
        if (!is_token(ids[i]))
            return fail(Code::invalid_argument, "the id ", ids[i], " at position ", i, " is not a token of ",
                        model_->name, ", whose ids end at ", vocab_size() - 1);
        if (!skip_special || !is_special(ids[i])) bytes += model_->vocabulary.bytes(ids[i]);
    }
    return bytes;
}

Result<std::string> Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
    GNV_ASSIGN(const std::string bytes, decode_bytes(ids, skip_special));
    return utf8_lossy(bytes);
}

// --- Encoding -------------------------------------------------------------------------------------------------------------

struct Encoder::State {
    explicit State(std::shared_ptr<const TokenizerModel> tokenizer_model)
        : model(std::move(tokenizer_model)), merger(model->merges, model->byte_tokens) {}

    // Each step hands its parts to the next one; the last appends to `ids`.
    Status encode_text(std::string_view text, bool parse_added_tokens);
    Status encode_stretch(std::string_view text, bool parse_added_tokens);
    template <class EncodeBetween>
    Status encode_parts(const AddedTokenFinder & finder, std::string_view text, const EncodeBetween & encode_between);
    Status encode_pieces(std::string_view text, size_t pattern);
    Status encode_piece(std::string_view piece);
    void merge_piece(std::string_view piece);
    bool has_enough() const { return ids->size() - ids_before >= max_ids; }

    std::shared_ptr<const TokenizerModel> model;
    Merger merger;
    MatchMemory match_memory;
    WorkLimit work;
    PieceCache cache;
    std::string normalized;
    std::vector<TokenId> * ids = nullptr; // of the running call
    size_t ids_before = 0;                // it came with
    size_t max_ids = 0;
};

Encoder::Encoder(const Tokenizer & tokenizer) : state_(std::make_unique<State>(tokenizer.model_)) {}
Encoder::Encoder(Encoder &&) noexcept = default;
Encoder & Encoder::operator=(Encoder &&) noexcept = default;
Encoder::~Encoder() = default;

Status Encoder::encode(std::string_view text, std::vector<TokenId> & ids, const EncodeOptions & options) {
    if (!state_->match_memory.ok()) return Status(Code::out_of_memory, "not enough memory for matching patterns");
    if (text.size() > longest_text)
        return fail(Code::unsupported, "a text of ", bytes_text(text.size()), "; at most ", bytes_text(longest_text),
                    " are encoded at once");
    const size_t valid = utf8_valid_prefix(text);
    if (valid < text.size()) return fail(Code::format, "the text is not valid UTF-8 at byte ", valid);
    const size_t before = ids.size();
    state_->ids = &ids;
    state_->ids_before = before;
    state_->max_ids = options.max_ids;
    state_->work.start(text.size(), state_->model->patterns.size(), options.stop);
    Status status = state_->encode_text(text, options.parse_added_tokens);
    if (status.code() == Code::unsupported) status.add_context(state_->model->name);
    if (state_->normalized.capacity() > most_kept_normalized) std::string().swap(state_->normalized);
    if (!status.ok()) ids.resize(before);
    if (ids.size() - before > options.max_ids) ids.resize(before + options.max_ids);
    return status;
}

Result<std::vector<TokenId>> Encoder::encode(std::string_view text, const EncodeOptions & options) {
    std::vector<TokenId> ids;
    GNV_TRY(encode(text, ids, options));
    return ids;
}

// Added tokens become ids, the text between them is for `encode_between`.
template <class EncodeBetween>
Status Encoder::State::encode_parts(const AddedTokenFinder & finder, std::string_view text,
                                    const EncodeBetween & encode_between) {
    TextParts parts(finder, text);
    for (TextPart part; !has_enough();) {
        GNV_ASSIGN(const bool found, parts.next(part, work));
        if (!found) break;
        if (part.token != no_token) {
            ids->push_back(part.token);
        } else {
            GNV_TRY(encode_between(text.substr(part.begin, part.end - part.begin)));
        }
    }
    return {};
}

Status Encoder::State::encode_text(std::string_view text, bool parse_added_tokens) {
    if (!parse_added_tokens || model->raw_tokens.empty()) return encode_stretch(text, parse_added_tokens);
    return encode_parts(model->raw_tokens, text, [this](std::string_view part) { return encode_stretch(part, true); });
}

Status Encoder::State::encode_stretch(std::string_view text, bool parse_added_tokens) {
    if (model->nfc) text = nfc(text, normalized);
    if (!parse_added_tokens || model->normalized_tokens.empty()) return encode_pieces(text, 0);
    return encode_parts(model->normalized_tokens, text,
                        [this](std::string_view part) { return encode_pieces(part, 0); });
}

// Every match of a pattern is a piece, and so is the text between two matches.
Status Encoder::State::encode_pieces(std::string_view text, size_t pattern) {
    if (pattern == model->patterns.size()) return encode_piece(text);
    const auto next = [&](size_t begin, size_t end) {
        return begin == end ? Status() : encode_pieces(text.substr(begin, end - begin), pattern + 1);
    };
    size_t done = 0, from = 0; // text already in pieces; where to look for the next match
    bool matched_before = false;
    while (from <= text.size()) {
        if (has_enough()) return {};
        GNV_ASSIGN(const Match match, model->patterns[pattern].find(text, from, match_memory, work));
        if (!match.found) break;
        if (match.begin == match.end && matched_before && match.begin == done) {
            size_t bytes = 1; // nothing again at the end of the last match: look from the next character on
            if (from < text.size()) utf8_decode(text, from, bytes);
            from += bytes;
            continue;
        }
        GNV_TRY(next(done, match.begin));
        GNV_TRY(next(match.begin, match.end));
        done = from = match.end;
        matched_before = true;
    }
    return next(done, text.size());
}

Status Encoder::State::encode_piece(std::string_view piece) {
    if (piece.size() > PieceCache::longest_piece) {
        if (has_enough()) return {};
        if (piece.size() > longest_piece)
            return fail(Code::invalid_argument, "a single piece of ", piece.size(),
                        " bytes without a place to cut it; at most ", longest_piece,
                        " are taken: leave the text out, or break the piece with a blank");
        if (!work.spend(piece.size())) return work.status();
        merge_piece(piece);
        return {};
    }
    PieceCache::Slot & slot = cache.slot(piece);
    if (slot.holds_piece()) {
        slot.append_to(*ids);
        return {};
    }
    const size_t before = ids->size();
    merge_piece(piece);
    slot.keep(ids->data() + before, ids->size() - before);
    return {};
}

void Encoder::State::merge_piece(std::string_view piece) {
    const TokenId whole = model->ignore_merges ? model->vocabulary.find_bytes(piece) : no_token;
    if (whole != no_token && whole < model->trained_size) {
        ids->push_back(whole);
    } else {
        merger.merge(piece, *ids);
    }
}

} // namespace gnv
