/*
 * A plug-in for Mosquitto 2: asks `touchmark revocation hook` about the
 * certificate that a client showed, and lets it in only if the answer is 200.
 *
 *   gcc -shared -fPIC -O2 -Wall -o touchmark_status.so touchmark_status.c -lcrypto
 *
 *   listener 8883
 *   cafile root.crt
 *   certfile broker.crt
 *   keyfile broker.key
 *   require_certificate true
 *   plugin /usr/lib/mosquitto/touchmark_status.so
 *   plugin_opt_host 127.0.0.1
 *   plugin_opt_port 8449
 *
 * Neither use_identity_as_username nor use_subject_as_username may be set:
 * Mosquitto then asks no plug-in and lets in every certificate that verifies,
 * revoked ones as well. The plug-in makes the common name of the
 * certificate the user name, for the rules of an ACL file.
 *
 * The broker waits for the answer, so the hook belongs on the same machine;
 * after two seconds the client is refused.
 */
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

static mosquitto_plugin_id_t *plugin_id;
static char host[256] = "127.0.0.1";
static char port[16] = "8449";

static const int wait_seconds = 2;

/* dial returns a connected socket, or -1. */
static int dial(void)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
	struct timeval wait = {.tv_sec = wait_seconds};
	int s = -1;

	if (getaddrinfo(host, port, &hints, &list) != 0)
		return -1;
	for (a = list; a && s < 0; a = a->ai_next) {
		s = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
		if (s < 0)
			continue;
		/* On Linux the sending timeout also bounds connect. */
		setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
		setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
		if (connect(s, a->ai_addr, a->ai_addrlen) != 0) {
			close(s);
			s = -1;
		}
	}
	freeaddrinfo(list);
	return s;
}

static bool send_all(int s, const char *b, size_t n)
{
	while (n > 0) {
		ssize_t done = send(s, b, n, MSG_NOSIGNAL);
		if (done <= 0)
			return false;
		b += done;
		n -= (size_t)done;
	}
	return true;
}

/* status reads the status of an HTTP answer, 0 if there is none in time. */
static int status(int s)
{
	char line[64];
	size_t have = 0;
	int code = 0;

	while (have < sizeof line - 1) {
		ssize_t got = recv(s, line + have, sizeof line - 1 - have, 0);
		if (got <= 0)
			break;
		have += (size_t)got;
		line[have] = 0;
		if (strchr(line, '\n'))
			break;
	}
	line[have] = 0;
	if (!strchr(line, '\n') || sscanf(line, "HTTP/1.%*d %d", &code) != 1)
		return 0;
	return code;
}

/* question is the body of the request: the certificate as base64 of DER,
 * which needs no escaping in JSON. The caller frees it. */
static char *question(X509 *certificate)
{
	static const char head[] = "{\"cert_pem\":\"", tail[] = "\"}";
	unsigned char *der = NULL;
	char *body;
	int n, m;

	n = i2d_X509(certificate, &der);
	if (n <= 0)
		return NULL;
	body = malloc(sizeof head + sizeof tail + 4 * ((size_t)n + 2) / 3 + 1);
	if (body) {
		memcpy(body, head, sizeof head - 1);
		m = EVP_EncodeBlock((unsigned char *)body + sizeof head - 1, der, n);
		memcpy(body + sizeof head - 1 + m, tail, sizeof tail);
	}
	OPENSSL_free(der);
	return body;
}

static int ask(const char *body)
{
	char head[512];
	int code = 0, s = dial();

	if (s < 0)
		return 0;
	snprintf(head, sizeof head,
		"POST /user HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
		host, port, strlen(body));
	if (send_all(s, head, strlen(head)) && send_all(s, body, strlen(body)))
		code = status(s);
	close(s);
	return code;
}

/* name makes the common name the client's user name. */
static bool name(struct mosquitto *client, X509 *certificate)
{
	X509_NAME *subject = X509_get_subject_name(certificate);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *text = NULL;
	bool ok;
	int n;

	if (at < 0)
		return true;
	n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	ok = n > 0 && strlen((char *)text) == (size_t)n && mosquitto_set_username(client, (char *)text) == MOSQ_ERR_SUCCESS;
	OPENSSL_free(text);
	return ok;
}

static int on_basic_auth(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_basic_auth *e = event_data;
	X509 *certificate = mosquitto_client_certificate(e->client);
	char *body = NULL;
	int code = 0;

	(void)event;
	(void)userdata;
	if (certificate)
		body = question(certificate);
	if (body)
		code = ask(body);
	if (code == 200 && !name(e->client, certificate))
		code = 0;
	if (code != 200)
		mosquitto_log_printf(MOSQ_LOG_NOTICE, "touchmark_status: %s refused: %s", mosquitto_client_address(e->client),
			!certificate ? "it showed no certificate" : code == 0 ? "the hook did not answer" : "the hook says no, and its log why");
	free(body);
	X509_free(certificate);
	return code == 200 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
}

int mosquitto_plugin_version(int count, const int *versions)
{
	for (int i = 0; i < count; i++)
		if (versions[i] == 5)
			return 5;
	return -1;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	plugin_id = id;
	for (int i = 0; i < count; i++) {
		if (strcmp(options[i].key, "host") == 0) {
			snprintf(host, sizeof host, "%s", options[i].value);
		} else if (strcmp(options[i].key, "port") == 0) {
			snprintf(port, sizeof port, "%s", options[i].value);
		} else {
			mosquitto_log_printf(MOSQ_LOG_ERR, "touchmark_status: there is no plugin_opt_%s: there are plugin_opt_host and plugin_opt_port", options[i].key);
			return MOSQ_ERR_INVAL;
		}
	}
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, on_basic_auth, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return mosquitto_callback_unregister(plugin_id, MOSQ_EVT_BASIC_AUTH, on_basic_auth, NULL);
}
