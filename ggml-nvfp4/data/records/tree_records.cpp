#include "data/records/tree_records.h"

#include "data/records/record_names.h"

#include <unordered_map>

namespace gnv {

namespace {

constexpr uint64_t memory_of_message = 512; // beside its texts: the node, and places in two tables

struct Message {
    std::string id, parent, text, role, where;
    std::vector<uint32_t> answers;
    bool is_root = false;
};

class TreeRecords final : public RecordReader {
  public:
    explicit TreeRecords(const ReadControl & control) : share_(control), control_(control) {}

    // False where the rows are of another kind.
    Result<bool> load(RecordReader & reader) {
        for (;;) {
            GNV_ASSIGN(const bool found, reader.next());
            if (!found) break;
            GNV_TRY(control_.check());
            Record record;
            GNV_ASSIGN(const RowFault fault, reader.read(record));
            if (fault != RowFault::none) continue; // its answers begin trees of their own
            for (const char * const field : tree_fields)
                if (messages_.empty() && !record.find(field)) return false;
            GNV_TRY(add(record, reader.where()));
        }
        connect();
        return true;
    }

    Result<bool> next() override {
        do next_++;
        while (next_ <= messages_.size() && !messages_[next_ - 1].is_root);
        return next_ <= messages_.size();
    }

    Result<RowFault> read(Record & out) override {
        out.fields.clear();
        RecordField & field = out.fields.emplace_back();
        field.name = "messages";
        field.kind = RecordField::Kind::messages;
        for (uint32_t at = uint32_t(next_ - 1);; at = messages_[at].answers.front()) {
            field.messages.push_back({chat_role(messages_[at].role), messages_[at].text});
            if (messages_[at].answers.empty()) return RowFault::none;
        }
    }

    std::string where() const override { return messages_[next_ - 1].where; }

  private:
    Status add(Record & record, std::string where) {
        Message message;
        message.where = std::move(where);
        std::string * const parts[] = {&message.id, &message.parent, &message.text, &message.role};
        uint64_t bytes = memory_of_message + message.where.size();
        for (size_t i = 0; i < std::size(parts); i++) {
            const RecordField * const field = record.find(tree_fields[i]);
            if (field && field->kind == RecordField::Kind::text) *parts[i] = field->text;
            bytes += parts[i]->size();
        }
        if (!share_.resize(share_.bytes() + bytes))
            return control_.too_small(concat(message.where, ": a tree of ", messages_.size(), " messages"), bytes);
        messages_.push_back(std::move(message));
        return {};
    }

    // An answer comes after what it answers, whatever a file says: no circle can arise.
    void connect() {
        std::unordered_map<std::string_view, uint32_t> by_id;
        for (uint32_t i = 0; i < messages_.size(); i++) by_id.emplace(messages_[i].id, i);
        for (uint32_t i = 0; i < messages_.size(); i++) {
            const auto parent = by_id.find(messages_[i].parent);
            const bool answers = !messages_[i].parent.empty() && parent != by_id.end() && parent->second < i;
            messages_[i].is_root = !answers;
            if (answers) messages_[parent->second].answers.push_back(i);
        }
    }

    MemoryShare share_;
    ReadControl control_;
    std::vector<Message> messages_;
    size_t next_ = 0; // one after the current root
};

} // namespace

Result<std::unique_ptr<RecordReader>> open_record_trees(const std::string & path, const ReadControl & control) {
    const std::vector<std::string> wanted(std::begin(tree_fields), std::end(tree_fields));
    GNV_ASSIGN(const std::unique_ptr<RecordReader> reader, open_records(path, wanted, control));
    auto trees = std::make_unique<TreeRecords>(control);
    GNV_ASSIGN(const bool are_trees, trees->load(*reader));
    return std::unique_ptr<RecordReader>(are_trees ? std::move(trees) : nullptr);
}

} // namespace gnv
