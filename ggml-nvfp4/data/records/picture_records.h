// Pictures of a record: what it says about them, brought to the form that a chat template and expand_placeholders() take.
//
//   {"type": "image", "image": "cat.png"}                     a part of a message: path or data: URI; also image_url and
//   {"type": "image_url", "image_url": {"url": "data:..."}}   path, url; also of type video
//   {"type": "image"}, <image> in a text                      stand for the next picture of the fields "image" and "images";
//   {"type": "video"}, <video> in a text                      of "video" and "videos"
//   fields with pictures and no placeholder anywhere          the pictures come before the text of the first user
#pragma once

#include "data/records/record.h"
#include "formats/json.h"
#include "images/picture_text.h"

namespace gnv {

// Whether a message's content is a list with pictures.
bool has_picture_parts(const JsonValue & content);
// Of a field: a text, {path}, {url} or {bytes} with Base64, or a list of them. Nothing for other values.
Status read_pictures(const JsonValue & value, bool is_video, std::vector<RecordPicture> & out);
// A picture of a Parquet column; `bytes` of a column without a path may be a path.
RecordPicture make_record_picture(bool is_video, std::string bytes, std::string path);

bool has_pictures(const Record & record);

// Gives the messages of a record, or the exchange or text that it has in their place, parts or placeholders where pictures
// stand, and moves the pictures to `pictures`, in the order of the text. RowFault::picture_count, with the reason in `why`:
// there are more or fewer than the text asks for.
Result<RowFault> arrange_pictures(Record & record, const PictureWords & words, std::vector<RecordPicture> & pictures,
                                  std::string & why);

} // namespace gnv
