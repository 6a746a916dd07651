/* hash.c: SHA-256 (FIPS 180-4, libcrypto) and a stable 64-bit hash for memo keys.
 *
 * oz_hash64 reads little-endian 8-byte words whatever the machine, so its values may be written to files. */
#include "ounce/base.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

struct oz_sha256 {
    EVP_MD_CTX *evp;
};

oz_status oz_sha256_new(oz_sha256 **out)
{
    *out = NULL;
    oz_sha256 *h = oz_zalloc(1, sizeof *h);
    if (!h) return OZ_ERR_NOMEM;
    h->evp = EVP_MD_CTX_new();
    if (!h->evp || !EVP_DigestInit_ex(h->evp, EVP_sha256(), NULL)) {
        EVP_MD_CTX_free(h->evp);
        oz_free(h);
        return oz_fail(OZ_ERR_NOMEM, NULL, "libcrypto refused to start %s", "SHA-256");
    }
    *out = h;
    return OZ_OK;
}

void oz_sha256_add(oz_sha256 *h, const void *data, size_t n)
{
    if (n) EVP_DigestUpdate(h->evp, data, n);
}

void oz_sha256_end(oz_sha256 *h, uint8_t out[32])
{
    unsigned int n = 0;
    EVP_DigestFinal_ex(h->evp, out, &n);
    EVP_MD_CTX_free(h->evp);
    oz_free(h);
}

oz_status oz_sha256_of(const void *data, size_t n, uint8_t out[32])
{
    oz_sha256 *h;
    OZ_TRY(oz_sha256_new(&h));
    oz_sha256_add(h, data, n);
    oz_sha256_end(h, out);
    return OZ_OK;
}

oz_status oz_sha256_file(const char *path, uint8_t out[32])
{
    const size_t size = (size_t)1 << 20;
    FILE *file = fopen(path, "rb");
    if (!file) return oz_fail(OZ_ERR_IO, NULL, "%s: cannot open: %s", path, strerror(errno));
    oz_sha256 *h = NULL;
    uint8_t *buffer = oz_alloc(size, 1);
    oz_status s = buffer ? oz_sha256_new(&h) : OZ_ERR_NOMEM;
    size_t n;
    while (!s && (n = fread(buffer, 1, size, file)) > 0) {
        oz_sha256_add(h, buffer, n);
#ifdef OUNCE_FAULTS
        if (oz_fault_read_now()) s = oz_fail(OZ_ERR_IO, NULL, "%s: cannot read: %s", path, strerror(EIO));
#endif
    }
    if (!s && ferror(file)) s = oz_fail(OZ_ERR_IO, NULL, "%s: cannot read: %s", path, strerror(errno));
    if (h) oz_sha256_end(h, out);
    oz_free(buffer);
    fclose(file);
    return s;
}

void oz_hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = 0;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    return x ^ (x >> 32);
}

static uint64_t word_at(const uint8_t *p, size_t n)
{
    uint64_t w = 0;
    for (size_t i = 0; i < n; i++) w |= (uint64_t)p[i] << (8 * i);
    return w;
}

uint64_t oz_hash64(const void *data, size_t n, uint64_t seed)
{
    const uint8_t *p = data;
    uint64_t h = mix(seed ^ (0x9E3779B97F4A7C15u * ((uint64_t)n + 1)));
    size_t i = 0;
    for (; i + 8 <= n; i += 8) h = (h ^ mix(word_at(p + i, 8))) * 0x9FB21C651E98DF25u + 1;
    if (i < n) h = (h ^ mix(word_at(p + i, n - i) + 0x51)) * 0x9FB21C651E98DF25u + 1;
    return mix(h);
}
