#include "images/picture_decoders.h"

#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <png.h>

namespace gnv {

namespace {

// libpng reports an error by a jump. Everything that it can jump over is a plain function of this state, without an object
// that has a destructor.
struct PngState {
    const uint8_t * bytes = nullptr;
    size_t size = 0, offset = 0;
    png_structp png = nullptr;
    png_infop info = nullptr;
    std::jmp_buf jump;
    char why[160] = "";
    bool no_memory = false;
    uint8_t * rgb = nullptr;
    size_t stride = 0, height = 0;

    PngState(std::string_view data) : bytes(reinterpret_cast<const uint8_t *>(data.data())), size(data.size()) {}
    PngState(const PngState &) = delete;
    ~PngState() { png_destroy_read_struct(&png, &info, nullptr); }
};

PngState & state_of(png_structp png) { return *static_cast<PngState *>(png_get_error_ptr(png)); }

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
    PngState & state = state_of(png);
    strncpy(state.why, message, sizeof state.why - 1);
    std::longjmp(state.jump, 1);
}

void on_warning(png_structp, png_const_charp) {} // of parts of the file that are not used

void * allocate(png_structp png, png_alloc_size_t size) {
    void * const memory = malloc(size);
    if (!memory) static_cast<PngState *>(png_get_mem_ptr(png))->no_memory = true;
    return memory;
}

void release(png_structp, void * memory) { free(memory); }

void read_bytes(png_structp png, png_bytep out, size_t count) {
    PngState & state = *static_cast<PngState *>(png_get_io_ptr(png));
    if (count > state.size - state.offset) {
        state.offset = state.size;
        png_error(png, "the file ends early");
    }
    memcpy(out, state.bytes + state.offset, count);
    state.offset += count;
}

// Grey of 16 bits, and none that has alpha: values from 255 on become 255, as in PIL. A row grows from 2 to 3 bytes a
// pixel in place, so it is rewritten from its end.
void clip_grey_row(png_structp, png_row_infop row, png_bytep data) {
    for (size_t x = row->width; x-- > 0;) {
        const uint8_t level = data[2 * x] ? 255 : data[2 * x + 1];
        memset(data + 3 * x, level, 3);
    }
    row->channels = 3, row->bit_depth = 8, row->pixel_depth = 24;
    row->rowbytes = size_t(row->width) * 3;
}

void decode_rows(PngState & state) {
    state.png =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &state, on_error, on_warning, &state, allocate, release);
    if (!state.png) std::longjmp(state.jump, 1);
    state.info = png_create_info_struct(state.png);
    if (!state.info) std::longjmp(state.jump, 1);
    png_set_read_fn(state.png, &state, read_bytes);
    png_set_user_limits(state.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);            // the caller has checked the size
    png_set_keep_unknown_chunks(state.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1); // text, profiles, times ...
    png_read_info(state.png, state.info);
    const int type = png_get_color_type(state.png, state.info), depth = png_get_bit_depth(state.png, state.info);
    if (type == PNG_COLOR_TYPE_GRAY && depth == 16) {
        png_set_read_user_transform_fn(state.png, clip_grey_row);
        png_set_user_transform_info(state.png, nullptr, 8, 3);
    } else {
        if (depth == 16) png_set_strip_16(state.png);
        if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(state.png);
        if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(state.png);
        if (!(type & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(state.png);
        png_set_strip_alpha(state.png); // also what a transparent palette becomes
    }
    const int passes = png_set_interlace_handling(state.png);
    png_read_update_info(state.png, state.info);
    if (png_get_rowbytes(state.png, state.info) != state.stride) png_error(state.png, "rows of another size");
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < state.height; y++) png_read_row(state.png, state.rgb + y * state.stride, nullptr);
    png_read_end(state.png, nullptr);
}

// False after an error.
bool run_decoder(PngState & state) {
    if (setjmp(state.jump)) return false;
    decode_rows(state);
    return true;
}

uint32_t big_endian(std::string_view bytes, size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) value = value << 8 | uint8_t(bytes[at + i]);
    return value;
}

} // namespace

Result<ImageInfo> read_png_info(std::string_view bytes, const std::string & name) {
    constexpr size_t header = 8 + 8 + 13; // signature, length and type of the first chunk, its content
    if (bytes.size() < header) return damaged_image(ImageFormat::png, name, bytes.size(), "the file ends early");
    const uint32_t width = big_endian(bytes, 16), height = big_endian(bytes, 20);
    if (bytes.substr(12, 4) != "IHDR" || width > PNG_UINT_31_MAX || height > PNG_UINT_31_MAX)
        return damaged_image(ImageFormat::png, name, 8, "no header of an image");
    return ImageInfo{ImageFormat::png, width, height};
}

Status decode_png(std::string_view bytes, const std::string & name, Image & image) {
    PngState state(bytes);
    state.rgb = image.rgb.data(), state.stride = size_t(image.width) * 3, state.height = size_t(image.height);
    if (run_decoder(state)) return {};
    if (state.no_memory || !state.png || !state.info) return no_memory_for_image(ImageFormat::png, name);
    return damaged_image(ImageFormat::png, name, state.offset, state.why);
}

} // namespace gnv
