#include "images/picture_decoders.h"

#include <csetjmp>
#include <cstdio> // jpeglib.h needs it
#include <cstring>

#include <jpeglib.h>

#include <jerror.h> // its list of messages depends on the former

namespace gnv {

namespace {

// A progressive file makes the decoder look at all coefficients once a scan, however few bytes the scan has. Encoders write
// 10 or so.
constexpr int max_scans = 100;

// libjpeg reports an error by a jump. Everything that it can jump over is a plain function of this state, without an object
// that has a destructor.
struct JpegState {
    jpeg_decompress_struct decoder = {}; // zeros: jpeg_destroy may be called at any time
    jpeg_error_mgr errors;
    jpeg_source_mgr source = {};
    jpeg_progress_mgr progress = {};
    size_t size = 0;
    std::jmp_buf jump;
    char why[JMSG_LENGTH_MAX] = "";
    int code = 0; // of libjpeg, for `why`
    uint8_t * rgb = nullptr;
    uint8_t * row = nullptr; // CMYK: 4 bytes a pixel
    size_t width = 0, height = 0;

    JpegState(std::string_view bytes);
    JpegState(const JpegState &) = delete;
    ~JpegState() { jpeg_destroy_decompress(&decoder); }
    size_t offset() const { return size - source.bytes_in_buffer; }
};

JpegState & state_of(j_common_ptr decoder) { return *static_cast<JpegState *>(decoder->client_data); }

[[noreturn]] void stop(JpegState & state, const char * why) {
    strncpy(state.why, why, sizeof state.why - 1);
    std::longjmp(state.jump, 1);
}

[[noreturn]] void on_error(j_common_ptr decoder) {
    JpegState & state = state_of(decoder);
    state.code = decoder->err->msg_code;
    decoder->err->format_message(decoder, state.why);
    std::longjmp(state.jump, 1);
}

// Of the warnings, those after which a part of the picture is made up.
void on_message(j_common_ptr decoder, int level) {
    constexpr int losses[] = {
#ifdef D_ARITH_CODING_SUPPORTED
        JWRN_ARITH_BAD_CODE,
#endif
        JWRN_HIT_MARKER,     JWRN_HUFF_BAD_CODE, JWRN_JPEG_EOF, JWRN_MUST_RESYNC, JWRN_NOT_SEQUENTIAL};
    if (level >= 0) return;
    for (const int loss : losses)
        if (decoder->err->msg_code == loss) on_error(decoder);
}

void on_output(j_common_ptr) {}

void begin_source(j_decompress_ptr) {}
void end_source(j_decompress_ptr) {}
boolean fill_source(j_decompress_ptr decoder) {
    decoder->src->bytes_in_buffer = 0; // the decoder of codes has not told yet how far it is
    stop(state_of(reinterpret_cast<j_common_ptr>(decoder)), "the file ends early");
}
void skip_source(j_decompress_ptr decoder, long count) {
    if (count <= 0) return;
    jpeg_source_mgr & source = *decoder->src;
    if (size_t(count) > source.bytes_in_buffer) fill_source(decoder);
    source.next_input_byte += count;
    source.bytes_in_buffer -= size_t(count);
}

void on_progress(j_common_ptr common) {
    const j_decompress_ptr decoder = reinterpret_cast<j_decompress_ptr>(common);
    if (decoder->input_scan_number > max_scans) stop(state_of(common), "more scans than any encoder writes");
}

JpegState::JpegState(std::string_view bytes) : size(bytes.size()) {
    decoder.err = jpeg_std_error(&errors);
    errors.error_exit = on_error;
    errors.emit_message = on_message;
    errors.output_message = on_output;
    source.next_input_byte = reinterpret_cast<const JOCTET *>(bytes.data());
    source.bytes_in_buffer = bytes.size();
    source.init_source = begin_source;
    source.fill_input_buffer = fill_source;
    source.skip_input_data = skip_source;
    source.resync_to_restart = jpeg_resync_to_restart;
    source.term_source = end_source;
    progress.progress_monitor = on_progress;
    decoder.client_data = this; // kept by jpeg_create_decompress
}

void read_header(JpegState & state) {
    jpeg_create_decompress(&state.decoder);
    state.decoder.mem->max_memory_to_use = 0; // none of its own, and none from the environment
    state.decoder.src = &state.source;
    state.decoder.progress = &state.progress;
    jpeg_read_header(&state.decoder, TRUE);
    const int components = state.decoder.num_components;
    if (components != 1 && components != 3 && components != 4) stop(state, "neither grey nor RGB nor CMYK");
}

// PIL's conversion: inks are stored inverted, and black darkens the rest with an 8-bit product.
void cmyk_to_rgb(const uint8_t * cmyk, size_t width, uint8_t * rgb) {
    for (size_t x = 0; x < width; x++, cmyk += 4, rgb += 3) {
        const int light = cmyk[3];
        for (int c = 0; c < 3; c++) {
            const int product = (255 - cmyk[c]) * light + 128;
            const int level = light - (((product >> 8) + product) >> 8);
            rgb[c] = uint8_t(level < 0 ? 0 : level);
        }
    }
}

void grey_to_rgb(size_t width, uint8_t * row) { // in place: from the end
    for (size_t x = width; x-- > 0;) memset(row + 3 * x, row[x], 3);
}

void decode_rows(JpegState & state) {
    jpeg_decompress_struct & decoder = state.decoder;
    const int components = decoder.num_components;
    decoder.out_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
    decoder.dct_method = JDCT_ISLOW;
    decoder.do_fancy_upsampling = TRUE;
    jpeg_start_decompress(&decoder);
    if (decoder.output_width != state.width || decoder.output_height != state.height ||
        decoder.output_components != components)
        stop(state, "rows of another size");
    for (size_t y = 0; y < state.height; y++) {
        uint8_t * const out = state.rgb + y * state.width * 3;
        JSAMPROW row = components == 4 ? state.row : out;
        jpeg_read_scanlines(&decoder, &row, 1);
        if (components == 1) grey_to_rgb(state.width, out);
        if (components == 4) cmyk_to_rgb(state.row, state.width, out);
    }
    jpeg_finish_decompress(&decoder);
}

// False after an error.
bool run(void (*step)(JpegState & state), JpegState & state) {
    if (setjmp(state.jump)) return false;
    step(state);
    return true;
}

Status failure(const JpegState & state, const std::string & name) {
    switch (state.code) {
    case JERR_OUT_OF_MEMORY: return no_memory_for_image(ImageFormat::jpeg, name);
    case JERR_BAD_PRECISION:
    case JERR_SOF_UNSUPPORTED:
#if JPEG_LIB_VERSION < 70 // Ubuntu's library has no such error
    case JERR_ARITH_NOTIMPL:
#endif
    case JERR_CONVERSION_NOTIMPL:
    case JERR_NOTIMPL:
        return fail(Code::unsupported, name, ": a kind of JPEG that is not read: ", state.why, "; convert it");
    default: return damaged_image(ImageFormat::jpeg, name, state.offset(), state.why);
    }
}

} // namespace

Result<ImageInfo> read_jpeg_info(std::string_view bytes, const std::string & name) {
    JpegState state(bytes);
    if (!run(read_header, state)) return failure(state, name);
    return ImageInfo{ImageFormat::jpeg, state.decoder.image_width, state.decoder.image_height};
}

Status decode_jpeg(std::string_view bytes, const std::string & name, Image & image) {
    std::vector<uint8_t> row(size_t(image.width) * 4);
    JpegState state(bytes);
    state.rgb = image.rgb.data(), state.row = row.data();
    state.width = size_t(image.width), state.height = size_t(image.height);
    if (!run(read_header, state) || !run(decode_rows, state)) return failure(state, name);
    return {};
}

} // namespace gnv
