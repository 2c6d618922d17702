/* Reads lines "LICENCE UID PRODUCT EPOCH UIDTYPE KEYID ALGORITHM KEY", the
 * first two and the last in hexadecimal, and prints what firmware would say. */
#define TOUCHMARK_LICENCE_IMPLEMENTATION
#include "../touchmark_licence.h"

#include <stdio.h>

static size_t bytes(const char *hex, uint8_t *out, size_t most)
{
	size_t n = 0;
	unsigned int b;

	for (; n < most && sscanf(hex, "%2x", &b) == 1; hex += 2)
		out[n++] = (uint8_t)b;
	return n;
}

int main(void)
{
	char licence_hex[200], uid_hex[100], key_hex[200];
	unsigned int product, epoch, type, id, algorithm;
	uint8_t licence[TOUCHMARK_LICENCE_SIZE], uid[TOUCHMARK_UID_MAX + 1], bits[64];
	struct touchmark_key key;
	struct touchmark_policy policy;
	size_t n;

	while (scanf("%199s %99s %u %u %u %u %u %199s", licence_hex, uid_hex, &product, &epoch, &type, &id, &algorithm, key_hex) == 8) {
		bytes(licence_hex, licence, sizeof(licence));
		n = bytes(uid_hex, uid, sizeof(uid));
		bytes(key_hex, bits, sizeof(bits));
		key.id = (uint8_t)id;
		key.algorithm = (uint8_t)algorithm;
		key.bytes = bits;
		policy.keys = &key;
		policy.key_count = 1;
		policy.product = product;
		policy.epoch = (uint16_t)epoch;
		policy.uid_type = (uint8_t)type;
		printf("%d\n", (int)touchmark_licence_check(licence, uid, n, &policy));
		fflush(stdout);
	}
	return 0;
}
