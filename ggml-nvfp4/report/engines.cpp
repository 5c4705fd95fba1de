#include "report/engines.h"

namespace gnv {

namespace {

struct Row {
    const char * engine;
    const char * devices;
    uint64_t StoredModules::*scheme;
    const char * kernel;
    const char * effect;
    const char * basis; // as in docs/engines.md: run, read, conclusion
};
constexpr Row rows[] = {
    {"vLLM", "Blackwell (10.0 on)", &StoredModules::w4a4, "FP4 x FP4: FlashInfer or CUTLASS",
     "one input scale for all experts of a layer: the smallest stored", "read, vLLM 08f95fe"},
    {"vLLM", "Ampere to Hopper (8.0 to 9.0)", &StoredModules::w4a4, "Marlin: FP4 x BF16",
     "input scales are ignored: answers of W4A16", "read, vLLM 08f95fe"},
    {"vLLM", "CPU", &StoredModules::w4a4, "emulation in BF16", "for tests: no FP4 arithmetic", "run, vLLM 0.33.0"},
    {"vLLM", "Ampere and later (8.0 on)", &StoredModules::w4a16, "Marlin: FP4 x BF16", "weights alone are in FP4",
     "read, vLLM 08f95fe"},
    {"SGLang", "Blackwell (10.0 on)", &StoredModules::w4a4, "FP4 x FP4: FlashInfer or CUTLASS",
     "one input scale for a pair, or for all experts of a layer", "read, SGLang 00c9967"},
    {"SGLang", "Ampere to Hopper (8.0 to 9.0)", &StoredModules::w4a4, "Marlin: FP4 x BF16",
     "input scales are ignored: answers of W4A16", "read, SGLang 00c9967"},
    {"SGLang", "Ampere and later (8.0 on)", &StoredModules::w4a16, "Marlin: FP4 x BF16", "weights alone are in FP4",
     "read, SGLang 00c9967"},
    {"Transformers", "any", &StoredModules::w4a4, "weights widened to BF16",
     "drops the global scales of experts: wrong answers", "run, Transformers 5.17 to 5.23"},
    {"Transformers", "any", &StoredModules::w4a16, "weights widened to BF16",
     "drops the global scales of experts: wrong answers", "run, Transformers 5.17 to 5.23"},
};

} // namespace

void engines_json(JsonWriter & json, const StoredModules & modules, const std::vector<std::string> & stopped_by) {
    json.begin_array();
    for (const Row & row : rows) {
        if (modules.*row.scheme == 0) continue;
        json.begin_object().member("engine", row.engine).member("devices", row.devices);
        json.member("scheme", row.scheme == &StoredModules::w4a4 ? "W4A4" : "W4A16");
        json.member("modules", modules.*row.scheme).member("kernel", row.kernel).member("effect", row.effect);
        json.member("basis", row.basis).member("stopped_by", stopped_by).end_object();
    }
    json.end_array();
}

} // namespace gnv
