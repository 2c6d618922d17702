//go:build pkcs11

package keys

import _ "go.step.sm/crypto/kms/pkcs11" // pkcs11:, by cgo

const havePKCS11 = true
