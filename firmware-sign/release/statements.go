package release

import "time"

// What others approve, besides a release's own statement.

// ApproveStatement asks that a release be approved.
type ApproveStatement struct {
	Release   int64     `json:"release"`
	Statement Statement `json:"statement"`
}

// YankStatement asks that a release be yanked.
type YankStatement struct {
	Release int64  `json:"release"`
	Name    string `json:"name"`
	Digest  string `json:"digest"` // of the release's statement, in hexadecimal
}

// FloorStatement asks that a product's counter floor be raised.
type FloorStatement struct {
	Product string `json:"product"`
	From    uint32 `json:"from"`
	To      uint32 `json:"to"`
}

// RevokeKeyStatement asks that a signing key be revoked.
type RevokeKeyStatement struct {
	Key       string `json:"key"`
	PublicKey []byte `json:"publicKey"`
}

// Impact is whom an act would touch, as far as devices were seen.
type Impact struct {
	Devices  int64    `json:"devices" doc:"How many devices were last seen to run what the act is about: the release, a release below the floor, or one that the key signed"`
	Seen     int64    `json:"seen" doc:"How many devices of the product were seen at all"`
	Releases []string `json:"releases" nullable:"false" doc:"The releases that the act is about: yanked, below the floor, or signed by the key"`
	Stranded bool     `json:"stranded,omitempty" doc:"Whether the devices would be left without a published release that they accept"`
}

// Running is what a device was seen to run.
type Running struct {
	Device  int64     `json:"device" minimum:"1" doc:"The device's number"`
	Version string    `json:"version" minLength:"1" maxLength:"63" doc:"The version of its firmware"`
	Counter uint32    `json:"counter" doc:"The security counter of its firmware"`
	At      time.Time `json:"at" doc:"When it was seen"`
}
