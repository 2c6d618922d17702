//go:build !pkcs11

package keys

const havePKCS11 = false
