namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

constexpr MixerLoops mixer_loops = {0};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
