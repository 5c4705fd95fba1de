// Pictures of records: read, decoded and resized.
#pragma once

#include "core/thread_pool.h"
#include "data/files/read_control.h"
#include "data/records/record.h"
#include "images/prepared_picture.h"

namespace gnv {

// The bytes of Base64 text, with or without padding; blanks and line ends are passed over. Code::format: other characters.
Result<std::string> decode_base64(std::string_view text);

// With padding.
std::string encode_base64(std::string_view bytes);

// `data_file`: the file of the record; paths are relative to its folder. Code::invalid_argument: a picture without a source, an
// address of the network, which is not fetched; Code::not_found, Code::format and Code::unsupported: as of read_image() and
// plan_video(); Code::out_of_memory: decoding does not fit into the budget of `control`.
Result<PreparedPicture> load_picture(const RecordPicture & picture, const std::string & data_file,
                                     const ProcessorConfig & config, const ReadControl & control, ThreadPool * pool);

} // namespace gnv
