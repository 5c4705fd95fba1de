// Suggestions for words of a command line that are not known.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace tools {

// Letters to insert, leave out, replace, or swap with their neighbour, that make one word of the other.
inline size_t edit_distance(const std::string & a, const std::string & b) {
    std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
    for (size_t i = 0; i <= a.size(); i++) cost[i][0] = i;
    for (size_t j = 0; j <= b.size(); j++) cost[0][j] = j;
    for (size_t i = 1; i <= a.size(); i++) {
        for (size_t j = 1; j <= b.size(); j++) {
            const size_t other = a[i - 1] != b[j - 1];
            cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + other});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
        }
    }
    return cost[a.size()][b.size()];
}

// The known word that is meant most likely; "": none is near.
inline std::string nearest(const std::string & word, const std::vector<std::string> & known) {
    std::string best;
    size_t least = std::max<size_t>(1, word.size() / 4) + 1;
    for (const std::string & one : known) {
        const size_t distance = edit_distance(word, one);
        if (distance < least) best = one, least = distance;
    }
    if (!best.empty()) return best;
    constexpr size_t telling = 5; // letters that two words begin with
    for (const std::string & one : known) {
        const size_t both = std::min(word.size(), one.size());
        if (both >= telling && word.compare(0, both, one, 0, both) == 0) return one;
    }
    return "";
}

// Names that other programs have for an option or argument (llm-compressor, auto-round, Model-Optimizer, llama.cpp, hf).
// Of several names here, the one that the program knows counts.
struct PeerName {
    const char * theirs;
    const char * ours; // "": the argument without a name
};
inline constexpr PeerName peer_names[] = {
    {"--dataset", "--calib"},
    {"--dataset", "--data"},
    {"--datasets", "--calib"},
    {"--datasets", "--data"},
    {"--dataset-path", "--calib"},
    {"--calib-data", "--calib"},
    {"--calib-dataset", "--calib"},
    {"--calibration-data", "--calib"},
    {"--calibration-dataset", "--calib"},
    {"--data", "--calib"},
    {"--calib", "--data"},
    {"--num-samples", "--samples"},
    {"--num-samples", "--documents"},
    {"--num-calibration-samples", "--samples"},
    {"--nsamples", "--samples"},
    {"--calib-size", "--samples"},
    {"--chunks", "--samples"},
    {"--samples", "--documents"},
    {"--limit", "--documents"},
    {"--max-seq-length", "--seq-len"},
    {"--max-seq-length", "--tokens-per-document"},
    {"--max-seq-len", "--seq-len"},
    {"--max-length", "--seq-len"},
    {"--seqlen", "--seq-len"},
    {"--seq-length", "--seq-len"},
    {"--calib-seq", "--seq-len"},
    {"--seq-len", "--tokens-per-document"},
    {"--ctx-size", "--seq-len"},
    {"--ctx-size", "--tokens-per-document"},
    {"--output-dir", "--output"},
    {"--output-path", "--output"},
    {"--outfile", "--output"},
    {"--out", "--output"},
    {"--save-dir", "--output"},
    {"--save-path", "--output"},
    {"--export-path", "--output"},
    {"--export-dir", "--output"},
    {"--output", "--tokens-out"},
    {"--qformat", "--scheme"},
    {"--quant-type", "--scheme"},
    {"--quantization", "--scheme"},
    {"--outtype", "--scheme"},
    {"--format", "--scheme"},
    {"--exclude-modules", "--ignore"},
    {"--exclude", "--ignore"},
    {"--skip", "--ignore"},
    {"--tensor-type", "--keep"},
    {"--nthreads", "--threads"},
    {"-t", "--threads"},
    {"--n-threads", "--threads"},
    {"--max-memory", "--ram"},
    {"--gpu-memory", "--vram"},
    {"--force", "--overwrite"},
    {"--push-to-hub", "--upload"},
    {"--pattern", "--filter"},
    {"--max-tokens", "--n-predict"},
    {"--max-new-tokens", "--n-predict"},
    {"-n", "--n-predict"},
    {"-p", "--prompt"},
    {"--temperature", "--temp"},
    {"--repeat-penalty", "--repetition-penalty"},
    {"--reference", "--source"},
    {"--base-model", "--source"},
    {"--model", ""},
    {"--model-path", ""},
    {"--model-name-or-path", ""},
    {"--pyt-ckpt-path", ""},
    {"--input", ""},
    {"--checkpoint", ""},
    {"-m", ""},
};

} // namespace tools
