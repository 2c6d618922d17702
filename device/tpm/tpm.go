// Package tpm keeps a device's keys in a TPM 2.0 (ISO/IEC 11889, TCG TPM 2.0
// Library), and proves by it where they are.
//
// Nothing stays in the TPM. A key is made in it below the storage root key
// (SRK), and leaves it only wrapped for the same SRK; the wrapped key lies in a
// slot's file. Each operation loads what it needs and flushes it, so a restart
// of the machine at any moment loses nothing, and any number of keys fit.
package tpm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// DefaultPath is the kernel's resource manager for the first TPM.
const DefaultPath = "/dev/tpmrm0"

// TPM is a TPM 2.0. It is not open between operations.
type TPM struct {
	// Path is a device file, best that of the kernel's resource manager, or the
	// Unix socket of a software TPM.
	Path string
	// Auth is the authorization value of keys that are made or used; none by
	// default.
	Auth []byte
	// EK says which endorsement key proves the TPM: a name of [EKs], or "" for
	// the first that has a certificate.
	EK string

	mu sync.Mutex
}

// do opens the TPM for an operation.
func (t *TPM) do(work func(transport.TPM) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.Path)
	if err != nil {
		return fmt.Errorf("there is no TPM: %w", err)
	}
	open := linuxtpm.Open
	if info.Mode()&fs.ModeSocket != 0 {
		open = linuxudstpm.Open
	}
	conn, err := open(t.Path)
	if err != nil {
		return fmt.Errorf("open the TPM: %w", err)
	}
	defer conn.Close()
	err = work(conn)
	if full(err) && !strings.Contains(t.Path, "tpmrm") {
		// Nobody else tidies up here: what was loaded belongs to a process that
		// was killed.
		if reclaim(conn) == nil {
			err = work(conn)
		}
	}
	return explain(err)
}

// full reports whether the TPM has no room for another object or session.
func full(err error) bool {
	return errors.Is(err, tpm2.TPMRCObjectMemory) || errors.Is(err, tpm2.TPMRCSessionMemory) ||
		errors.Is(err, tpm2.TPMRCObjectHandles) || errors.Is(err, tpm2.TPMRCSessionHandles)
}

// reclaim flushes all that is loaded.
func reclaim(conn transport.TPM) error {
	for _, first := range []tpm2.TPMHandle{transientFirst, sessionFirst} {
		list, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: 64}.Execute(conn)
		if err != nil {
			return err
		}
		handles, err := list.CapabilityData.Data.Handles()
		if err != nil {
			return err
		}
		for _, h := range handles.Handle {
			flush(conn, h)
		}
	}
	return nil
}

// First handles of kinds (TCG Part 2, §7.2).
const (
	transientFirst tpm2.TPMHandle = 0x80000000
	sessionFirst   tpm2.TPMHandle = 0x02000000 // loaded sessions of HMAC and policy
)

// flush frees an object. It fails only if the object is gone.
func flush(conn transport.TPM, h tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(conn)
}

// StrangeKeyError says that the TPM cannot unwrap a key.
type StrangeKeyError struct{ Err error }

func (e *StrangeKeyError) Error() string {
	return fmt.Sprintf("the key was made in another TPM, or this TPM was cleared since; it is lost, and the device must enrol anew: %v", e.Err)
}

func (e *StrangeKeyError) Unwrap() error { return e.Err }

// explain makes codes of the TPM speak.
func explain(err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return &StrangeKeyError{err}
	case errors.Is(err, tpm2.TPMRCLockout):
		return fmt.Errorf("the TPM is locked out after too many wrong authorization values; it opens again by itself: %w", err)
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		return fmt.Errorf("the TPM wants another authorization value: %w", err)
	case errors.Is(err, tpm2.TPMRCInitialize):
		return fmt.Errorf("the TPM was not started up: %w", err)
	}
	return err
}

// srkTemplate is the storage root key of P-256, with an empty unique field, as
// the tools around TSS2 PRIVATE KEY files make it.
func srkTemplate() tpm2.TPMTPublic {
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return template
}

// withSRK loads the storage root key for as long as work takes.
func withSRK(conn transport.TPM, work func(srk *tpm2.CreatePrimaryResponse) error) error {
	srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(srkTemplate())}.Execute(conn)
	if err != nil {
		return fmt.Errorf("storage root key: %w", err)
	}
	defer flush(conn, srk.ObjectHandle)
	return work(srk)
}

// wrapped is a key as it leaves the TPM.
type wrapped struct {
	public  tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate
}

// loaded is a key in the TPM.
type loaded struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
}

// with loads a key for as long as work takes, in which nothing else is loaded.
func (w *wrapped) with(conn transport.TPM, work func(loaded) error) error {
	var key *tpm2.LoadResponse
	err := withSRK(conn, func(srk *tpm2.CreatePrimaryResponse) (err error) {
		key, err = tpm2.Load{ParentHandle: tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name}, InPrivate: w.private, InPublic: w.public}.Execute(conn)
		return err
	})
	if err != nil {
		return fmt.Errorf("load the key: %w", err)
	}
	defer flush(conn, key.ObjectHandle)
	return work(loaded{key.ObjectHandle, key.Name})
}

// by names the key as one that does something, with its authorization value.
func (l loaded) by(auth []byte) tpm2.AuthHandle {
	session := tpm2.PasswordAuth(nil)
	if len(auth) > 0 { // an HMAC, so that the value does not travel
		session = tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(auth))
	}
	return tpm2.AuthHandle{Handle: l.handle, Name: l.name, Auth: session}
}
