// Four bytes that say how much data the file holds, then its header: refused, or a list of tensors that cover the data.
#include "fuzz/fuzz_input.h"
#include "fuzz/header_mutator.h"

using namespace gnv;
using namespace gnv::fuzz;

static void check_header(const Header & header, uint64_t data_bytes) {
    uint64_t covered = 0;
    for (const HeaderTensor & tensor : header.tensors) {
        uint64_t bits = uint64_t(dtype_traits(tensor.dtype).bits);
        for (const int64_t extent : tensor.shape) bits *= uint64_t(extent);
        require(!tensor.name.empty() && tensor.begin == covered && bits / 8 == tensor.end - tensor.begin);
        covered = tensor.end;
    }
    require(covered == data_bytes);
    const std::string again = make_header(header.tensors, header.metadata);
    const Result<Header> parsed = parse_header(again.substr(8), data_bytes, "again");
    require(parsed.ok() && parsed.value().tensors.size() == header.tensors.size() &&
            parsed.value().metadata == header.metadata);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    Bytes input(data, size);
    const uint64_t data_bytes = input.number(4);
    const Result<Header> header = parse_header(input.rest(), data_bytes, "input.safetensors");
    require_message(header.status());
    if (header.ok()) check_header(header.value(), data_bytes);
    return 0;
}

#ifdef GNV_FUZZER
extern "C" size_t LLVMFuzzerMutate(uint8_t * data, size_t size, size_t max_size);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t * data, size_t size, size_t max_size, unsigned seed) {
    Random random(seed);
    if (size < 4 || below(random, 4) == 0) return LLVMFuzzerMutate(data, size, max_size);
    std::string json(reinterpret_cast<char *>(data) + 4, size - 4);
    for (uint64_t changes = 1 + below(random, 3); changes > 0; changes--) mutate_header_once(json, random);
    const size_t kept = std::min(json.size(), max_size - 4);
    std::copy(json.begin(), json.begin() + ptrdiff_t(kept), data + 4);
    return kept + 4;
}
#endif
