package timeline

// causeKind is one explanation of how a guest fared, and what helps. Those that one
// finding alone leads to stand beside its rule, the others in cause_time.go and
// cause_exit.go.
type causeKind struct {
	name string
	// look adds to a cause what the record tells of it beyond the finding. May be nil.
	look func(r *record, f *Finding, c *Cause)
	// cures are what would help, the best first.
	cures func(c *Cause) []string
	// inside is set for what is wrong inside a disk: no program of the host ends
	// because of it, and it says nothing of the guest's opens.
	inside bool
}

// causeKinds has all of them by name.
var causeKinds = map[string]*causeKind{}

func newCause(k causeKind) *causeKind {
	causeKinds[k.name] = &k
	return &k
}

// remedies are what would help, where the cause as a whole is known.
func (c *Cause) remedies() []string {
	if k := causeKinds[c.Kind]; k != nil && k.cures != nil {
		return k.cures(c)
	}
	return []string{CureLookInside}
}

// inside reports whether c is about what is inside a disk.
func (c *Cause) inside() bool {
	k := causeKinds[c.Kind]
	return k != nil && k.inside
}

// always is for findings that have one cause.
func always(k *causeKind) func(*record, *Finding) *causeKind {
	return func(*record, *Finding) *causeKind { return k }
}

// none is for findings that explain nothing of how a guest fared: bootrace says what
// it did itself.
func none(*record, *Finding) *causeKind { return nil }

// just is for causes whose cures are always the same.
func just(cures ...string) func(*Cause) []string {
	return func(*Cause) []string { return cures }
}
