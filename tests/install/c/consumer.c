/* Header and library are of one version; a call that allocates, starts threads and fails works from C. */
#include <ggml-nvfp4.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    char version[32];
    gnv_engine_t * engine = NULL;
    gnv_tokenizer_t * tokenizer = NULL;
    snprintf(version, sizeof version, "%d.%d.%d", GNV_VERSION_MAJOR, GNV_VERSION_MINOR, GNV_VERSION_PATCH);
    if (strcmp(version, gnv_version()) != 0 || gnv_version_number() != GNV_VERSION) return 1;
    if (gnv_engine_create(NULL, &engine) != GNV_OK) return 2;
    if (gnv_tokenizer_load(engine, "/nonexistent", &tokenizer) == GNV_OK || tokenizer) return 3;
    if (strstr(gnv_last_error(engine), "/nonexistent") == NULL) return 4;
    gnv_engine_destroy(engine);
    return 0;
}
