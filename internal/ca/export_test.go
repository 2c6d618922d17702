package ca

import "crypto"

// ReplaceSigner puts another signer in the place of an issuing CA's.
func ReplaceSigner(a *Authorities, name string, by func(crypto.Signer) crypto.Signer) {
	i := a.issuers.Load().byName[name]
	i.Signer = by(i.Signer)
}

// Lint holds a certificate to the rules that profiles are held to.
func Lint(der []byte) error { return lintCertificate(der) }
