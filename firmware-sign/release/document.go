package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxDocument is the longest document that is kept, in bytes.
const MaxDocument = 4 << 20

// MaxDocuments bounds a release.
const MaxDocuments = 16

// statementDocument is what tells the formats apart, and an in-toto
// statement's subjects (in-toto attestation framework v1, "Statement").
type statementDocument struct {
	BOMFormat     string `json:"bomFormat"`     // CycloneDX
	SPDXVersion   string `json:"spdxVersion"`   // SPDX 2
	Type          string `json:"_type"`         // in-toto
	PredicateType string `json:"predicateType"` // in-toto
	PayloadType   string `json:"payloadType"`   // DSSE
	Payload       string `json:"payload"`       // DSSE
	Context       any    `json:"@context"`      // SPDX 3
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// ReadDocument recognizes an SBOM (CycloneDX or SPDX, JSON) or SLSA provenance
// (an in-toto statement, alone or in DSSE), whose signature is not looked at.
func ReadDocument(content []byte) (Document, error) {
	d := Document{File: File{Size: int64(len(content))}}
	if len(content) == 0 || len(content) > MaxDocument {
		return d, fmt.Errorf("the document is %d bytes long: 1 to %d are taken", len(content), MaxDocument)
	}
	sum := sha256.Sum256(content)
	d.SHA256 = hex.EncodeToString(sum[:])
	s, err := parseDocument(content)
	switch {
	case err != nil:
		return d, err
	case s.BOMFormat == "CycloneDX":
		d.Kind, d.Format = SBOM, "cyclonedx"
	case strings.HasPrefix(s.SPDXVersion, "SPDX-"), strings.HasPrefix(fmt.Sprint(s.Context), "https://spdx.org/"):
		d.Kind, d.Format = SBOM, "spdx"
	case strings.HasPrefix(s.Type, "https://in-toto.io/Statement/") && strings.HasPrefix(s.PredicateType, "https://slsa.dev/provenance/"):
		d.Kind, d.Format = Provenance, "slsa"
		if len(s.Subject) == 0 {
			return d, errors.New("the provenance has no subject")
		}
	default:
		return d, errors.New("the document is no SBOM (CycloneDX or SPDX in JSON) and no SLSA provenance (in-toto)")
	}
	return d, nil
}

func parseDocument(content []byte) (s statementDocument, err error) {
	if err = json.Unmarshal(bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")), &s); err != nil {
		return s, fmt.Errorf("the document is no JSON object: %w", err)
	}
	if s.PayloadType != "application/vnd.in-toto+json" {
		return s, nil
	}
	inner, err := base64.StdEncoding.DecodeString(s.Payload)
	if err != nil {
		return s, fmt.Errorf("the payload of the DSSE envelope: %w", err)
	}
	s = statementDocument{}
	if err = json.Unmarshal(inner, &s); err != nil {
		err = fmt.Errorf("the payload of the DSSE envelope: %w", err)
	}
	return s, err
}

// Proven reports the first artefact that no provenance is about.
func (r *Release) Proven(provenance [][]byte) error {
	var subjects []string
	for _, content := range provenance {
		s, err := parseDocument(content)
		if err != nil {
			return err
		}
		for _, subject := range s.Subject {
			subjects = append(subjects, strings.ToLower(subject.Digest["sha256"]))
		}
	}
	for _, a := range r.Artefacts {
		if !slices.Contains(subjects, a.Source.SHA256) {
			return fmt.Errorf("the provenance is not about %s: none of its subjects has the SHA-256 %s", a.Name, a.Source.SHA256)
		}
	}
	return nil
}
