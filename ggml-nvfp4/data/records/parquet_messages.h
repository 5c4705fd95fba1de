// Messages of Parquet that are more than an author and a text, as JSON:
//
//   messages.list.element.role                             a member of every message
//   messages.list.element.tool.name                        the same, in a structure
//   messages.list.element.content.list.element             a list of strings
//   messages.list.element.content.list.element.text        a list of structures: parts, calls of tools
//
// Null values, which structures with different members are full of, are left out; strings under the name "bytes" are Base64.
#pragma once

#include "data/parquet/parquet.h"
#include "data/records/record.h"

namespace gnv {

// The end of a message about columns that do not belong together.
inline constexpr const char * unequal_columns = "; mend the row, or leave it out";

class ParquetMessages {
  public:
    // False: the column lies in no list of structures. `cell`: its position among the columns that are read.
    bool add(const ParquetColumn & column, size_t cell);
    // Whether there is more than an author and a text, or than questions and answers.
    bool has_more() const { return has_more_; }
    bool has_roles() const { return has_roles_; }

    // "" for no messages. RowFault::invalid_utf8; Code::format: columns with different numbers of messages.
    Result<RowFault> text(const std::vector<ParquetCell> & cells, const std::string & where, std::string & json) const;

  private:
    struct Leaf {
        std::vector<std::string> path;  // of a member of a message
        std::vector<std::string> inner; // where it holds a list: of a member of an element; empty for a list of strings
        bool is_list = false;
        size_t cell = 0;
    };
    std::string message_text(const std::vector<ParquetCell> & cells, size_t index) const;
    std::string list_text(const std::vector<ParquetCell> & cells, size_t first, size_t last, size_t index) const;

    std::vector<Leaf> leaves_; // those of a structure, and those of a list, follow each other
    bool has_more_ = false, has_roles_ = false;
};

// Why a column of a conversation cannot be left out without harm to its text; "" if it can.
std::string lost_of_message(const ParquetColumn & column);

} // namespace gnv
