/*
 * Touchmark licences: the check that firmware makes, in one file.
 *
 * A licence is 80 bytes, stored beside the firmware: a header of 16 and a
 * signature of 64, over a domain tag, the header and the chip's UID. It lets
 * the firmware run on this chip and no other (docs/licences.md).
 *
 *   #define TOUCHMARK_LICENCE_IMPLEMENTATION   in one .c file
 *   #include "touchmark_licence.h"
 *
 * C99, no allocation, no other library, about 2 KiB of stack. Define
 * TOUCHMARK_LICENCE_NO_ED25519 or TOUCHMARK_LICENCE_NO_P256 to leave out what
 * the keys do not need. Nothing here is secret, so nothing takes constant time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOUCHMARK_LICENCE_H
#define TOUCHMARK_LICENCE_H

#include <stddef.h>
#include <stdint.h>

#define TOUCHMARK_LICENCE_SIZE 80
#define TOUCHMARK_UID_MIN 4
#define TOUCHMARK_UID_MAX 32

/* Algorithms. */
#define TOUCHMARK_ED25519 1
#define TOUCHMARK_P256 2

/* What a check says. Zero is none of them, so that memory that was never
 * written, or a glitch that clears a register, is no consent. */
enum touchmark_verdict {
	TOUCHMARK_LICENSED = 0x3ca5,
	TOUCHMARK_EMPTY = 1,   /* the place of the licence is blank */
	TOUCHMARK_FORMAT,      /* not a licence, or of a version not known here */
	TOUCHMARK_PRODUCT,     /* for another product */
	TOUCHMARK_EPOCH,       /* older than this firmware takes */
	TOUCHMARK_UID,         /* for another kind or length of UID */
	TOUCHMARK_KEY,         /* by a key that this firmware does not know */
	TOUCHMARK_SIGNATURE    /* for another chip, or forged */
};

struct touchmark_key {
	uint8_t id;
	uint8_t algorithm;     /* TOUCHMARK_ED25519 or TOUCHMARK_P256 */
	const uint8_t *bytes;  /* Ed25519: 32 as in RFC 8032; P-256: x and y, 64, big-endian */
};

struct touchmark_policy {
	const struct touchmark_key *keys;
	size_t key_count;
	uint32_t product;
	uint16_t epoch;        /* the least that is taken */
	uint8_t uid_type;
};

/* touchmark_licence_check reads 80 bytes at licence and uid_length at uid. */
enum touchmark_verdict touchmark_licence_check(const uint8_t *licence, const uint8_t *uid, size_t uid_length,
	const struct touchmark_policy *policy);

#endif

#ifdef TOUCHMARK_LICENCE_IMPLEMENTATION

#include <string.h>

/* Numbers of 256 bits, the least significant word first. */
typedef uint32_t tmk_num[8];

static uint32_t tmk_add(tmk_num r, const tmk_num a, const tmk_num b)
{
	uint64_t c = 0;
	int i;

	for (i = 0; i < 8; i++) {
		c += (uint64_t)a[i] + b[i];
		r[i] = (uint32_t)c;
		c >>= 32;
	}
	return (uint32_t)c;
}

static uint32_t tmk_sub(tmk_num r, const tmk_num a, const tmk_num b)
{
	uint64_t c = 0;
	int i;

	for (i = 0; i < 8; i++) {
		c = (uint64_t)a[i] - b[i] - c;
		r[i] = (uint32_t)c;
		c = (c >> 32) & 1;
	}
	return (uint32_t)c;
}

static int tmk_less(const tmk_num a, const tmk_num b)
{
	tmk_num t;

	return (int)tmk_sub(t, a, b);
}

static int tmk_is_zero(const tmk_num a)
{
	uint32_t all = 0;
	int i;

	for (i = 0; i < 8; i++)
		all |= a[i];
	return all == 0;
}

static int tmk_bit(const tmk_num a, int i)
{
	return (int)((a[i / 32] >> (i % 32)) & 1);
}

/* A modulus, and what Montgomery multiplication wants to know of it: minus its
 * inverse modulo 2^32, and 2^256 and 2^512 modulo it. */
struct tmk_mod {
	tmk_num m;
	uint32_t inverse;
	tmk_num one, square;
};

/* tmk_madd and tmk_msub expect and give less than the modulus. */
static void tmk_madd(tmk_num r, const tmk_num a, const tmk_num b, const struct tmk_mod *f)
{
	if (tmk_add(r, a, b) || !tmk_less(r, f->m))
		tmk_sub(r, r, f->m);
}

static void tmk_msub(tmk_num r, const tmk_num a, const tmk_num b, const struct tmk_mod *f)
{
	if (tmk_sub(r, a, b))
		tmk_add(r, r, f->m);
}

/* tmk_mul gives a * b / 2^256 modulo m. */
static void tmk_mul(tmk_num r, const tmk_num a, const tmk_num b, const struct tmk_mod *f)
{
	uint32_t t[10] = {0};
	uint64_t c;
	uint32_t q;
	int i, j;

	for (i = 0; i < 8; i++) {
		for (c = 0, j = 0; j < 8; j++) {
			c += (uint64_t)a[i] * b[j] + t[j];
			t[j] = (uint32_t)c;
			c >>= 32;
		}
		c += t[8];
		t[8] = (uint32_t)c;
		t[9] = (uint32_t)(c >> 32);
		q = t[0] * f->inverse;
		c = ((uint64_t)q * f->m[0] + t[0]) >> 32;
		for (j = 1; j < 8; j++) {
			c += (uint64_t)q * f->m[j] + t[j];
			t[j - 1] = (uint32_t)c;
			c >>= 32;
		}
		c += t[8];
		t[7] = (uint32_t)c;
		t[8] = t[9] + (uint32_t)(c >> 32);
	}
	memcpy(r, t, sizeof(tmk_num));
	if (t[8] || !tmk_less(r, f->m))
		tmk_sub(r, r, f->m);
}

static void tmk_pow(tmk_num r, const tmk_num a, const tmk_num e, const struct tmk_mod *f)
{
	tmk_num base, t;
	int i;

	memcpy(base, a, sizeof(base));
	memcpy(t, f->one, sizeof(t));
	for (i = 255; i >= 0; i--) {
		tmk_mul(t, t, t, f);
		if (tmk_bit(e, i))
			tmk_mul(t, t, base, f);
	}
	memcpy(r, t, sizeof(t));
}

/* The inverse, by Fermat: the modulus is a prime. */
static void tmk_invert(tmk_num r, const tmk_num a, const struct tmk_mod *f)
{
	static const tmk_num two = {2};
	tmk_num e;

	tmk_sub(e, f->m, two);
	tmk_pow(r, a, e, f);
}

/* Into and out of Montgomery's form. */
static void tmk_enter(tmk_num r, const tmk_num a, const struct tmk_mod *f)
{
	tmk_mul(r, a, f->square, f);
}

static void tmk_leave(tmk_num r, const tmk_num a, const struct tmk_mod *f)
{
	static const tmk_num one = {1};

	tmk_mul(r, a, one, f);
}

/* Round constants of SHA-512 (FIPS 180-4); those of SHA-256 are the upper
 * halves of the first 64. */
static const uint64_t tmk_k[80] = {
	0x428a2f98d728ae22ULL, 0x7137449123ef65cdULL, 0xb5c0fbcfec4d3b2fULL,
	0xe9b5dba58189dbbcULL, 0x3956c25bf348b538ULL, 0x59f111f1b605d019ULL,
	0x923f82a4af194f9bULL, 0xab1c5ed5da6d8118ULL, 0xd807aa98a3030242ULL,
	0x12835b0145706fbeULL, 0x243185be4ee4b28cULL, 0x550c7dc3d5ffb4e2ULL,
	0x72be5d74f27b896fULL, 0x80deb1fe3b1696b1ULL, 0x9bdc06a725c71235ULL,
	0xc19bf174cf692694ULL, 0xe49b69c19ef14ad2ULL, 0xefbe4786384f25e3ULL,
	0x0fc19dc68b8cd5b5ULL, 0x240ca1cc77ac9c65ULL, 0x2de92c6f592b0275ULL,
	0x4a7484aa6ea6e483ULL, 0x5cb0a9dcbd41fbd4ULL, 0x76f988da831153b5ULL,
	0x983e5152ee66dfabULL, 0xa831c66d2db43210ULL, 0xb00327c898fb213fULL,
	0xbf597fc7beef0ee4ULL, 0xc6e00bf33da88fc2ULL, 0xd5a79147930aa725ULL,
	0x06ca6351e003826fULL, 0x142929670a0e6e70ULL, 0x27b70a8546d22ffcULL,
	0x2e1b21385c26c926ULL, 0x4d2c6dfc5ac42aedULL, 0x53380d139d95b3dfULL,
	0x650a73548baf63deULL, 0x766a0abb3c77b2a8ULL, 0x81c2c92e47edaee6ULL,
	0x92722c851482353bULL, 0xa2bfe8a14cf10364ULL, 0xa81a664bbc423001ULL,
	0xc24b8b70d0f89791ULL, 0xc76c51a30654be30ULL, 0xd192e819d6ef5218ULL,
	0xd69906245565a910ULL, 0xf40e35855771202aULL, 0x106aa07032bbd1b8ULL,
	0x19a4c116b8d2d0c8ULL, 0x1e376c085141ab53ULL, 0x2748774cdf8eeb99ULL,
	0x34b0bcb5e19b48a8ULL, 0x391c0cb3c5c95a63ULL, 0x4ed8aa4ae3418acbULL,
	0x5b9cca4f7763e373ULL, 0x682e6ff3d6b2b8a3ULL, 0x748f82ee5defb2fcULL,
	0x78a5636f43172f60ULL, 0x84c87814a1f0ab72ULL, 0x8cc702081a6439ecULL,
	0x90befffa23631e28ULL, 0xa4506cebde82bde9ULL, 0xbef9a3f7b2c67915ULL,
	0xc67178f2e372532bULL, 0xca273eceea26619cULL, 0xd186b8c721c0c207ULL,
	0xeada7dd6cde0eb1eULL, 0xf57d4f7fee6ed178ULL, 0x06f067aa72176fbaULL,
	0x0a637dc5a2c898a6ULL, 0x113f9804bef90daeULL, 0x1b710b35131c471bULL,
	0x28db77f523047d84ULL, 0x32caab7b40c72493ULL, 0x3c9ebe0a15c9bebcULL,
	0x431d67c49c100d4cULL, 0x4cc5d4becb3e42b6ULL, 0x597f299cfc657e2aULL,
	0x5fcb6fab3ad6faecULL, 0x6c44198c4a475817ULL
};

static const uint64_t tmk_h[8] = {
	0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL,
	0xa54ff53a5f1d36f1ULL, 0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL,
	0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL
};

#ifndef TOUCHMARK_LICENCE_NO_ED25519

static uint64_t tmk_rot64(uint64_t x, int n)
{
	return (x >> n) | (x << (64 - n));
}

static void tmk_sha512_block(uint64_t h[8], const uint8_t *p)
{
	uint64_t w[16], s[8], a, b;
	int i, j;

	for (i = 0; i < 16; i++)
		for (w[i] = 0, j = 0; j < 8; j++)
			w[i] = w[i] << 8 | p[8 * i + j];
	memcpy(s, h, sizeof(s));
	for (i = 0; i < 80; i++) {
		if (i >= 16) {
			a = w[(i - 15) & 15];
			b = w[(i - 2) & 15];
			w[i & 15] += w[(i - 7) & 15] + (tmk_rot64(a, 1) ^ tmk_rot64(a, 8) ^ (a >> 7))
				+ (tmk_rot64(b, 19) ^ tmk_rot64(b, 61) ^ (b >> 6));
		}
		a = s[7] + (tmk_rot64(s[4], 14) ^ tmk_rot64(s[4], 18) ^ tmk_rot64(s[4], 41))
			+ ((s[4] & s[5]) ^ (~s[4] & s[6])) + tmk_k[i] + w[i & 15];
		b = (tmk_rot64(s[0], 28) ^ tmk_rot64(s[0], 34) ^ tmk_rot64(s[0], 39))
			+ ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
		memmove(s + 1, s, 7 * sizeof(s[0]));
		s[4] += a;
		s[0] = a + b;
	}
	for (i = 0; i < 8; i++)
		h[i] += s[i];
}

/* tmk_sha512 hashes at most 239 bytes. */
static void tmk_sha512(uint8_t out[64], const uint8_t *in, size_t n)
{
	uint8_t p[256] = {0};
	size_t i, blocks = n + 17 > 128 ? 2 : 1;
	uint64_t h[8];

	memcpy(p, in, n);
	p[n] = 0x80;
	p[128 * blocks - 2] = (uint8_t)(n >> 5);
	p[128 * blocks - 1] = (uint8_t)(n << 3);
	memcpy(h, tmk_h, sizeof(h));
	for (i = 0; i < blocks; i++)
		tmk_sha512_block(h, p + 128 * i);
	for (i = 0; i < 64; i++)
		out[i] = (uint8_t)(h[i / 8] >> (56 - 8 * (i % 8)));
}

/* The field and the group of Ed25519 (RFC 8032 section 5.1), numbers in
 * Montgomery's form unless it says otherwise. */
static const struct tmk_mod tmk_f25519 = {
	{0xffffffed, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x7fffffff},
	0x286bca1b,
	{0x26},
	{0x5a4}
};
static const tmk_num tmk_ed_order = /* plain */
	{0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0, 0, 0, 0x10000000};
static const tmk_num tmk_ed_d =
	{0xdf47e9fa, 0x80ed8bfe, 0xafc62973, 0x10a18777, 0xbc188690, 0xe5939207, 0x729fc526, 0x2c822b5a};
static const tmk_num tmk_ed_i = /* a square root of -1 */
	{0xfe2bdb04, 0x3b5807d4, 0xb51be9ed, 0x03f590fd, 0x336202d1, 0x6d6e16bf, 0xd6c71ba8, 0x75776b0b};

/* A point is X, Y, Z, T with x = X/Z, y = Y/Z, x*y = T/Z. */
typedef tmk_num tmk_ed_point[4];

static const tmk_ed_point tmk_ed_base = {
	{0x3f9da287, 0xe2cabc55, 0x2396e489, 0x9ca59856, 0xade4b5b7, 0x9879936b, 0x7e6077d0, 0x759e2370},
	{0x3333334a, 0x33333333, 0x33333333, 0x33333333, 0x33333333, 0x33333333, 0x33333333, 0x33333333},
	{0x26},
	{0x994ae86c, 0x4f0896aa, 0xb612506e, 0xe3b7ad11, 0xf183c492, 0x46c7a922, 0xfeb3930d, 0x5e181c59}
};

/* tmk_ed_add is complete: it doubles, too (section 5.1.4). */
static void tmk_ed_add(tmk_num *r, tmk_num *p, tmk_num *q)
{
	const struct tmk_mod *f = &tmk_f25519;
	tmk_num a, b, c, d, e, g;

	tmk_msub(a, p[1], p[0], f);
	tmk_msub(b, q[1], q[0], f);
	tmk_mul(a, a, b, f);
	tmk_madd(b, p[1], p[0], f);
	tmk_madd(c, q[1], q[0], f);
	tmk_mul(b, b, c, f);
	tmk_mul(c, p[3], q[3], f);
	tmk_mul(c, c, tmk_ed_d, f);
	tmk_madd(c, c, c, f);
	tmk_mul(d, p[2], q[2], f);
	tmk_madd(d, d, d, f);
	tmk_msub(e, b, a, f);
	tmk_madd(b, b, a, f);
	tmk_madd(g, d, c, f);
	tmk_msub(d, d, c, f);
	tmk_mul(r[0], e, d, f);
	tmk_mul(r[1], g, b, f);
	tmk_mul(r[2], d, g, f);
	tmk_mul(r[3], e, b, f);
}

static void tmk_from_little(tmk_num r, const uint8_t *p)
{
	int i;

	for (i = 0; i < 8; i++, p += 4)
		r[i] = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* tmk_ed_read decodes a point (section 5.1.3). */
static int tmk_ed_read(tmk_num *r, const uint8_t *p)
{
	static const tmk_num exponent = /* (p-5)/8 */
		{0xfffffffd, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x0fffffff};
	const struct tmk_mod *f = &tmk_f25519;
	tmk_num y, u, v, x, t, zero = {0};
	uint32_t sign;

	tmk_from_little(y, p);
	sign = y[7] >> 31;
	y[7] &= 0x7fffffff;
	if (!tmk_less(y, f->m))
		return 0;
	tmk_enter(y, y, f);
	tmk_mul(u, y, y, f);
	tmk_mul(v, u, tmk_ed_d, f);
	tmk_msub(u, u, f->one, f);
	tmk_madd(v, v, f->one, f);
	tmk_mul(t, v, v, f);
	tmk_mul(t, t, v, f);      /* v^3 */
	tmk_mul(x, t, u, f);      /* u v^3 */
	tmk_mul(t, t, t, f);
	tmk_mul(t, t, v, f);
	tmk_mul(t, t, u, f);      /* u v^7 */
	tmk_pow(t, t, exponent, f);
	tmk_mul(x, x, t, f);
	tmk_mul(t, x, x, f);
	tmk_mul(t, t, v, f);
	if (memcmp(t, u, sizeof(t)) != 0) {
		tmk_madd(t, t, u, f);
		if (!tmk_is_zero(t))
			return 0;
		tmk_mul(x, x, tmk_ed_i, f);
	}
	tmk_leave(t, x, f);
	if (tmk_is_zero(t) && sign)
		return 0;
	if ((t[0] & 1) != sign)
		tmk_msub(x, zero, x, f);
	memcpy(r[0], x, sizeof(x));
	memcpy(r[1], y, sizeof(y));
	memcpy(r[2], f->one, sizeof(x));
	tmk_mul(r[3], x, y, f);
	return 1;
}

/* tmk_ed_same compares a point with an encoded one. */
static int tmk_ed_same(tmk_num *p, const uint8_t *encoded)
{
	const struct tmk_mod *f = &tmk_f25519;
	tmk_num z, x, y, want;

	tmk_invert(z, p[2], f);
	tmk_mul(x, p[0], z, f);
	tmk_leave(x, x, f);
	tmk_mul(y, p[1], z, f);
	tmk_leave(y, y, f);
	y[7] |= x[0] << 31;
	tmk_from_little(want, encoded);
	return memcmp(y, want, sizeof(y)) == 0;
}

/* tmk_ed_reduce gives 64 bytes, least significant first, modulo the order. */
static void tmk_ed_reduce(tmk_num r, const uint8_t *p)
{
	int i;

	memset(r, 0, sizeof(tmk_num));
	for (i = 511; i >= 0; i--) {
		tmk_add(r, r, r);
		r[0] |= (p[i / 8] >> (i % 8)) & 1U;
		if (!tmk_less(r, tmk_ed_order))
			tmk_sub(r, r, tmk_ed_order);
	}
}

/* tmk_ed25519 verifies a signature (section 5.1.7) over at most 175 bytes. */
static int tmk_ed25519(const uint8_t *key, const uint8_t *sig, const uint8_t *message, size_t n)
{
	const struct tmk_mod *f = &tmk_f25519;
	tmk_ed_point table[4], sum;
	tmk_num s, h, zero = {0};
	uint8_t buf[239], digest[64];
	int i, k;

	tmk_from_little(s, sig + 32);
	if (!tmk_less(s, tmk_ed_order) || !tmk_ed_read(table[2], key))
		return 0;
	memcpy(buf, sig, 32);
	memcpy(buf + 32, key, 32);
	memcpy(buf + 64, message, n);
	tmk_sha512(digest, buf, 64 + n);
	tmk_ed_reduce(h, digest);
	/* The sum of s times the base and h times minus the key. */
	tmk_msub(table[2][0], zero, table[2][0], f);
	tmk_msub(table[2][3], zero, table[2][3], f);
	memcpy(table[1], tmk_ed_base, sizeof(sum));
	tmk_ed_add(table[3], table[1], table[2]);
	memset(sum, 0, sizeof(sum));
	memcpy(sum[1], f->one, sizeof(zero));
	memcpy(sum[2], f->one, sizeof(zero));
	for (i = 252; i >= 0; i--) {
		tmk_ed_add(sum, sum, sum);
		k = tmk_bit(s, i) + 2 * tmk_bit(h, i);
		if (k)
			tmk_ed_add(sum, sum, table[k]);
	}
	return tmk_ed_same(sum, sig);
}

#endif /* TOUCHMARK_LICENCE_NO_ED25519 */

#ifndef TOUCHMARK_LICENCE_NO_P256

static uint32_t tmk_rot32(uint32_t x, int n)
{
	return (x >> n) | (x << (32 - n));
}

static void tmk_sha256_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[16], s[8], a, b;
	int i;

	for (i = 0; i < 16; i++, p += 4)
		w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	memcpy(s, h, sizeof(s));
	for (i = 0; i < 64; i++) {
		if (i >= 16) {
			a = w[(i - 15) & 15];
			b = w[(i - 2) & 15];
			w[i & 15] += w[(i - 7) & 15] + (tmk_rot32(a, 7) ^ tmk_rot32(a, 18) ^ (a >> 3))
				+ (tmk_rot32(b, 17) ^ tmk_rot32(b, 19) ^ (b >> 10));
		}
		a = s[7] + (tmk_rot32(s[4], 6) ^ tmk_rot32(s[4], 11) ^ tmk_rot32(s[4], 25))
			+ ((s[4] & s[5]) ^ (~s[4] & s[6])) + (uint32_t)(tmk_k[i] >> 32) + w[i & 15];
		b = (tmk_rot32(s[0], 2) ^ tmk_rot32(s[0], 13) ^ tmk_rot32(s[0], 22))
			+ ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
		memmove(s + 1, s, 7 * sizeof(s[0]));
		s[4] += a;
		s[0] = a + b;
	}
	for (i = 0; i < 8; i++)
		h[i] += s[i];
}

/* tmk_sha256 hashes at most 119 bytes, to a number. */
static void tmk_sha256(tmk_num out, const uint8_t *in, size_t n)
{
	uint8_t p[128] = {0};
	size_t i, blocks = n + 9 > 64 ? 2 : 1;
	uint32_t h[8];

	memcpy(p, in, n);
	p[n] = 0x80;
	p[64 * blocks - 2] = (uint8_t)(n >> 5);
	p[64 * blocks - 1] = (uint8_t)(n << 3);
	for (i = 0; i < 8; i++)
		h[i] = (uint32_t)(tmk_h[i] >> 32);
	for (i = 0; i < blocks; i++)
		tmk_sha256_block(h, p + 64 * i);
	for (i = 0; i < 8; i++)
		out[7 - i] = h[i];
}

/* The field and the group of P-256 (SP 800-186 section 3.2.1.3). */
static const struct tmk_mod tmk_p256 = {
	{0xffffffff, 0xffffffff, 0xffffffff, 0, 0, 0, 1, 0xffffffff},
	1,
	{1, 0, 0, 0xffffffff, 0xffffffff, 0xffffffff, 0xfffffffe, 0},
	{3, 0, 0xffffffff, 0xfffffffb, 0xfffffffe, 0xffffffff, 0xfffffffd, 4}
};
static const struct tmk_mod tmk_p256_order = {
	{0xfc632551, 0xf3b9cac2, 0xa7179e84, 0xbce6faad, 0xffffffff, 0xffffffff, 0, 0xffffffff},
	0xee00bc4f,
	{0x039cdaaf, 0x0c46353d, 0x58e8617b, 0x43190552, 0, 0, 0xffffffff, 0},
	{0xbe79eea2, 0x83244c95, 0x49bd6fa6, 0x4699799c, 0x2b6bec59, 0x2845b239, 0xf3d95620, 0x66e12d94}
};
static const tmk_num tmk_p256_b = /* Montgomery's form */
	{0x29c4bddf, 0xd89cdf62, 0x78843090, 0xacf005cd, 0xf7212ed6, 0xe5a220ab, 0x04874834, 0xdc30061d};

/* A point is X, Y, Z in Montgomery's form, with x = X/Z and y = Y/Z. */
typedef tmk_num tmk_ec_point[3];

static const tmk_ec_point tmk_p256_base = {
	{0x18a9143c, 0x79e730d4, 0x5fedb601, 0x75ba95fc, 0x77622510, 0x79fb732b, 0xa53755c6, 0x18905f76},
	{0xce95560a, 0xddf25357, 0xba19e45c, 0x8b4ab8e4, 0xdd21f325, 0xd2e88688, 0x25885d85, 0x8571ff18},
	{1, 0, 0, 0xffffffff, 0xffffffff, 0xffffffff, 0xfffffffe, 0}
};

/* tmk_ec_add is complete: it doubles, too, and knows the point at infinity
 * (Renes, Costello, Batina 2015, algorithm 4). */
static void tmk_ec_add(tmk_num *r, tmk_num *p, tmk_num *q)
{
	const struct tmk_mod *f = &tmk_p256;
	tmk_num t0, t1, t2, t3, t4, x, y, z;

	tmk_mul(t0, p[0], q[0], f);
	tmk_mul(t1, p[1], q[1], f);
	tmk_mul(t2, p[2], q[2], f);
	tmk_madd(t3, p[0], p[1], f);
	tmk_madd(t4, q[0], q[1], f);
	tmk_mul(t3, t3, t4, f);
	tmk_madd(t4, t0, t1, f);
	tmk_msub(t3, t3, t4, f);
	tmk_madd(t4, p[1], p[2], f);
	tmk_madd(x, q[1], q[2], f);
	tmk_mul(t4, t4, x, f);
	tmk_madd(x, t1, t2, f);
	tmk_msub(t4, t4, x, f);
	tmk_madd(x, p[0], p[2], f);
	tmk_madd(y, q[0], q[2], f);
	tmk_mul(x, x, y, f);
	tmk_madd(y, t0, t2, f);
	tmk_msub(y, x, y, f);
	tmk_mul(z, tmk_p256_b, t2, f);
	tmk_msub(x, y, z, f);
	tmk_madd(z, x, x, f);
	tmk_madd(x, x, z, f);
	tmk_msub(z, t1, x, f);
	tmk_madd(x, t1, x, f);
	tmk_mul(y, tmk_p256_b, y, f);
	tmk_madd(t1, t2, t2, f);
	tmk_madd(t2, t1, t2, f);
	tmk_msub(y, y, t2, f);
	tmk_msub(y, y, t0, f);
	tmk_madd(t1, y, y, f);
	tmk_madd(y, t1, y, f);
	tmk_madd(t1, t0, t0, f);
	tmk_madd(t0, t1, t0, f);
	tmk_msub(t0, t0, t2, f);
	tmk_mul(t1, t4, y, f);
	tmk_mul(t2, t0, y, f);
	tmk_mul(y, x, z, f);
	tmk_madd(r[1], y, t2, f);
	tmk_mul(x, t3, x, f);
	tmk_msub(r[0], x, t1, f);
	tmk_mul(z, t4, z, f);
	tmk_mul(t1, t3, t0, f);
	tmk_madd(r[2], z, t1, f);
}

static void tmk_from_big(tmk_num r, const uint8_t *p)
{
	int i;

	for (i = 7; i >= 0; i--, p += 4)
		r[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* tmk_ec_read reads x and y of a point, and checks that it is one. */
static int tmk_ec_read(tmk_num *r, const uint8_t *p)
{
	const struct tmk_mod *f = &tmk_p256;
	tmk_num t, u;

	tmk_from_big(r[0], p);
	tmk_from_big(r[1], p + 32);
	if (!tmk_less(r[0], f->m) || !tmk_less(r[1], f->m))
		return 0;
	tmk_enter(r[0], r[0], f);
	tmk_enter(r[1], r[1], f);
	memcpy(r[2], f->one, sizeof(t));
	tmk_mul(t, r[0], r[0], f); /* x^3 - 3x + b */
	tmk_mul(t, t, r[0], f);
	tmk_msub(t, t, r[0], f);
	tmk_msub(t, t, r[0], f);
	tmk_msub(t, t, r[0], f);
	tmk_madd(t, t, tmk_p256_b, f);
	tmk_mul(u, r[1], r[1], f);
	return memcmp(t, u, sizeof(t)) == 0;
}

/* tmk_ec_is_x tells whether the point's x is r modulo the order. */
static int tmk_ec_is_x(tmk_num *p, const tmk_num r)
{
	tmk_num z, x;

	if (tmk_is_zero(p[2]))
		return 0;
	tmk_invert(z, p[2], &tmk_p256);
	tmk_mul(x, p[0], z, &tmk_p256);
	tmk_leave(x, x, &tmk_p256);
	if (!tmk_less(x, tmk_p256_order.m))
		tmk_sub(x, x, tmk_p256_order.m);
	return memcmp(x, r, sizeof(x)) == 0;
}

/* tmk_ecdsa verifies a signature (FIPS 186-5 section 6.4.2) over at most 119
 * bytes. */
static int tmk_ecdsa(const uint8_t *key, const uint8_t *sig, const uint8_t *message, size_t n)
{
	const struct tmk_mod *o = &tmk_p256_order;
	tmk_ec_point table[4], sum;
	tmk_num r, s, u, v;
	int i, k;

	tmk_from_big(r, sig);
	tmk_from_big(s, sig + 32);
	if (tmk_is_zero(r) || tmk_is_zero(s) || !tmk_less(r, o->m) || !tmk_less(s, o->m) || !tmk_ec_read(table[2], key))
		return 0;
	tmk_sha256(u, message, n);
	if (!tmk_less(u, o->m))
		tmk_sub(u, u, o->m);
	tmk_enter(s, s, o);
	tmk_invert(s, s, o);
	tmk_mul(u, u, s, o); /* out of Montgomery's form by the way */
	tmk_mul(v, r, s, o);
	/* The sum of u times the base and v times the key. */
	memcpy(table[1], tmk_p256_base, sizeof(sum));
	tmk_ec_add(table[3], table[1], table[2]);
	memset(sum, 0, sizeof(sum));
	memcpy(sum[1], tmk_p256.one, sizeof(r));
	for (i = 255; i >= 0; i--) {
		tmk_ec_add(sum, sum, sum);
		k = tmk_bit(u, i) + 2 * tmk_bit(v, i);
		if (k)
			tmk_ec_add(sum, sum, table[k]);
	}
	return tmk_ec_is_x(sum, r);
}

#endif /* TOUCHMARK_LICENCE_NO_P256 */

static int tmk_blank(const uint8_t *p)
{
	uint8_t all = 0xff, any = 0;
	int i;

	for (i = 0; i < TOUCHMARK_LICENCE_SIZE; i++) {
		all &= p[i];
		any |= p[i];
	}
	return all == 0xff || any == 0;
}

static int tmk_verify(const struct touchmark_key *key, const uint8_t *sig, const uint8_t *message, size_t n)
{
#ifndef TOUCHMARK_LICENCE_NO_ED25519
	if (key->algorithm == TOUCHMARK_ED25519)
		return tmk_ed25519(key->bytes, sig, message, n);
#endif
#ifndef TOUCHMARK_LICENCE_NO_P256
	if (key->algorithm == TOUCHMARK_P256)
		return tmk_ecdsa(key->bytes, sig, message, n);
#endif
	(void)sig;
	(void)message;
	(void)n;
	return 0;
}

enum touchmark_verdict touchmark_licence_check(const uint8_t *licence, const uint8_t *uid, size_t uid_length,
	const struct touchmark_policy *policy)
{
	static const uint8_t tag[16] = {'t', 'o', 'u', 'c', 'h', 'm', 'a', 'r', 'k', ' ', 'l', 'i', 'c', ' ', '1', 0};
	uint8_t message[16 + 16 + TOUCHMARK_UID_MAX];
	size_t i;

	if (tmk_blank(licence))
		return TOUCHMARK_EMPTY;
	if (licence[0] != 'T' || licence[1] != 1 || licence[4] < TOUCHMARK_UID_MIN || licence[4] > TOUCHMARK_UID_MAX)
		return TOUCHMARK_FORMAT;
	if (((uint32_t)licence[8] | (uint32_t)licence[9] << 8 | (uint32_t)licence[10] << 16 | (uint32_t)licence[11] << 24) != policy->product)
		return TOUCHMARK_PRODUCT;
	if ((licence[6] | licence[7] << 8) < policy->epoch)
		return TOUCHMARK_EPOCH;
	if (licence[3] != policy->uid_type || licence[4] != uid_length)
		return TOUCHMARK_UID;
	memcpy(message, tag, 16);
	memcpy(message + 16, licence, 16);
	memcpy(message + 32, uid, uid_length);
	for (i = 0; i < policy->key_count; i++) {
		if (policy->keys[i].id != licence[5] || policy->keys[i].algorithm != licence[2])
			continue;
		return tmk_verify(&policy->keys[i], licence + 16, message, 32 + uid_length) ? TOUCHMARK_LICENSED : TOUCHMARK_SIGNATURE;
	}
	return TOUCHMARK_KEY;
}

#endif /* TOUCHMARK_LICENCE_IMPLEMENTATION */
