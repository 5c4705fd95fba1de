// Pictures that tests draw: a shape in a colour at a place, of the kind that the small checkpoint was trained on.
#pragma once

#include "scratch.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace gnv::test {

// A PNG of 8-bit RGB, [height, width, 3]; its data are not compressed.
inline std::string png_of(const std::vector<uint8_t> & rgb, uint32_t width, uint32_t height) {
    const auto number = [](uint32_t value) {
        return std::string{char(value >> 24), char(value >> 16), char(value >> 8), char(value)};
    };
    const auto crc = [](const std::string & bytes) {
        uint32_t sum = 0xffffffff;
        for (const char c : bytes) {
            sum ^= uint8_t(c);
            for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
        }
        return ~sum;
    };
    const auto chunk = [&](const std::string & type, const std::string & data) {
        return number(uint32_t(data.size())) + type + data + number(crc(type + data));
    };
    std::string rows;
    for (uint32_t y = 0; y < height; y++) {
        rows += '\0'; // no filter
        rows.append(rgb.begin() + ptrdiff_t(3 * width * y), rgb.begin() + ptrdiff_t(3 * width * (y + 1)));
    }
    uint32_t a = 1, b = 0; // Adler-32
    for (const char c : rows) a = (a + uint8_t(c)) % 65521, b = (b + a) % 65521;
    std::string zlib = "\x78\x01";
    for (size_t at = 0; at < rows.size(); at += 65535) {
        const size_t size = std::min<size_t>(65535, rows.size() - at);
        zlib += char(at + size == rows.size());
        for (const size_t value : {size, ~size}) zlib += char(value & 0xff), zlib += char(value >> 8 & 0xff);
        zlib.append(rows, at, size);
    }
    zlib += number(b << 16 | a);
    const std::string header = number(width) + number(height) + std::string("\x08\x02\0\0\0", 5);
    return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", zlib) + chunk("IEND", "");
}

struct DrawnPicture {
    std::string shape, colour, row, column; // as the small checkpoint calls them
    std::string name() const { return shape + "-" + colour + "-" + row + "-" + column + ".png"; }
    std::string answer() const { return "A " + colour + " " + shape + " at the " + row + " " + column + "."; }

    std::string png() const { // 64 x 64: four tokens
        const struct {
            const char * name;
            std::array<uint8_t, 3> rgb;
        } colours[] = {{"red", {220, 40, 40}},     {"blue", {40, 70, 220}},    {"green", {40, 180, 60}},
                       {"yellow", {230, 220, 50}}, {"white", {245, 245, 245}}, {"purple", {150, 60, 190}}};
        std::vector<uint8_t> rgb(64 * 64 * 3, 0);
        const int x0 = column == "left" ? 18 : 46, y0 = row == "top" ? 18 : 46;
        for (int y = 0; y < 64; y++)
            for (int x = 0; x < 64; x++) {
                const int dx = std::abs(x - x0), dy = std::abs(y - y0), down = y - y0 + 10;
                const bool inside = shape == "circle"   ? dx * dx + dy * dy <= 100
                                    : shape == "square" ? dx <= 10 && dy <= 10
                                    : shape == "cross"  ? std::min(dx, dy) <= 3 && std::max(dx, dy) <= 10
                                                        : down >= 0 && down <= 20 && 2 * dx <= down; // triangle
                for (const auto & row_of : colours)
                    if (inside && colour == row_of.name)
                        for (size_t c = 0; c < 3; c++) rgb[size_t(y * 64 + x) * 3 + c] = row_of.rgb[c];
            }
        return png_of(rgb, 64, 64);
    }
};

inline std::vector<DrawnPicture> all_drawn_pictures() { // 96
    std::vector<DrawnPicture> all;
    for (const char * const shape : {"circle", "square", "cross", "triangle"})
        for (const char * const colour : {"red", "blue", "green", "yellow", "white", "purple"})
            for (const char * const row : {"top", "bottom"})
                for (const char * const column : {"left", "right"}) all.push_back({shape, colour, row, column});
    return all;
}

} // namespace gnv::test
