package guest

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRedactOption(t *testing.T) {
	for _, c := range []struct{ option, value, want string }{
		{"-object", "secret,id=s0,data=hunter2", "secret,id=s0,data=[redacted]"},
		{"-object", "secret,id=s0,data=hunt,er2", "secret,id=s0,data=[redacted],[redacted]"},
		{"-object", "secret,id=s0,data=hunt,,er2,format=raw", "secret,id=s0,data=[redacted],format=raw"},
		{"-object", "secret,id=s0,keyid=m,iv=AAAA,file=/run/key", "secret,id=s0,keyid=m,iv=AAAA,file=/run/key"},
		{"-object", `{"qom-type":"secret","id":"s0","data":"hunter2","keyid":"m"}`, `{"qom-type":"secret","id":"s0","data":"[redacted]","keyid":"m"}`},
		{"-object", `{"qom-type":"secret","data":"hunter2"`, "[redacted]"},
		{"-object", `{"qom-type":"secret"} hunter2`, "[redacted]"},
		{"-object", `{'qom-type':'secret','data':'hunt"er2'}`, `{"qom-type":"secret","data":"[redacted]"}`},
		{"-object", "tls-creds-x509,id=t,dir=/etc/pki,passwordid=s0", "tls-creds-x509,id=t,dir=/etc/pki,passwordid=s0"},
		{"-vnc", ":2,password", ":2,password"},
		{"-vnc", ":2,password=on", ":2,password=on"},
		{"-vnc", ":2,password=hunter2", ":2,password=[redacted]"},
		{"-spice", "port=5900,password=hunter2,disable-ticketing", "port=5900,password=[redacted],disable-ticketing"},
		{"-spice", "port=5900,password=on", "port=5900,password=[redacted]"},
		{"-iscsi", "initiator-name=iqn.x,user=u,password=hunter2", "initiator-name=iqn.x,user=u,password=[redacted]"},
		{"-drive", "file=iscsi://u%hunter2@h/t/1,if=none", "file=iscsi://[redacted]@h/t/1,if=none"},
		{"-drive", "file=https://u:hunt/er2@h/x.iso?sig=hunter2,if=none", "file=https://[redacted]@h/x.iso?[redacted],if=none"},
		{"-drive", "file=nbd+unix:///x?socket=/run/s", "file=nbd+unix:///x?socket=/run/s"},
		{"-drive", `file=rbd:p/i:id=a:key=hunt\:er2==:mon_host=m\:6789`, `file=rbd:p/i:id=a:key=[redacted]:mon_host=m\:6789`},
		{"-drive", `file=json:{"driver":"https",,"url":"https://u:hunter2@h/"},if=none`, `file=json:{"driver":"https",,"url":"https://[redacted]@h/"},if=none`},
		{"-drive", "file=/dev/vg/key=x://a@b,if=none", "file=/dev/vg/key=x://a@b,if=none"},
		{"-drive", "file=/dev/vg/lv,encrypt.key-secret=sec0,password-secret=s1", "file=/dev/vg/lv,encrypt.key-secret=sec0,password-secret=s1"},
		{"-drive", "file.driver=https,file.cookie=hunter2", "file.driver=https,file.cookie=[redacted]"},
		{"-blockdev", `{"driver":"ssh","password":["hunter2",{"x":7}],"n":1}`, `{"driver":"ssh","password":["[redacted]",{"x":"[redacted]"}],"n":1}`},
		{"-blockdev", `{"filename":"json:{\"password\":\"hunter2\"}"}`, `{"filename":"json:{\"password\":\"[redacted]\"}"}`},
		{"-hda", "http://u:hunter2@h/x", "http://[redacted]@h/x"},
		{"-hda", "/dev/vg/a,password=b", "/dev/vg/a,password=b"},
		{"-append", "root=/dev/vda1 pw=hunter2", "[redacted]"},
		{"-fw_cfg", "name=opt/x,string=hunter2,foo", "name=opt/x,string=[redacted],[redacted]"},
		{"-fw_cfg", "opt/x,file=/etc/x", "opt/x,file=/etc/x"},
		{"-smbios", "type=11,value=io.systemd.credential:x=hunter2", "type=11,value=[redacted]"},
		{"-smbios", "type=1,serial=ds=nocloud;s=http://u:hunter2@h/,uuid=1", "type=1,serial=ds=nocloud;s=http://[redacted]@h/,uuid=1"},
		{"-incoming", "exec: nc -k hunter2", "exec:[redacted]"},
		{"-incoming", "tcp:0:4444", "tcp:0:4444"},
		{"-incoming", `{"channel-type":"main","addr":{"transport":"exec","args":["hunter2"]}}`, "[redacted]"},
		{"-netdev", "user,id=n,guestfwd=tcp:10.0.2.9:1-cmd:auth hunter2", "user,id=n,guestfwd=tcp:10.0.2.9:1-cmd:[redacted]"},
		{"-device", "isa-applesmc,osk=hunter2", "isa-applesmc,osk=[redacted]"},
		{"-global", "isa-applesmc.osk=hunt,er2", "isa-applesmc.osk=[redacted]"},
		{"-global", "driver=isa-applesmc,property=osk,value=hunter2", "driver=isa-applesmc,property=osk,value=[redacted]"},
		{"-set", "device.smc.osk=hunt,er2", "device.smc.osk=[redacted]"},
		{"-future", "password=hunter2", "password=[redacted]"},
		{"-name", "guest=vm1,debug-threads=on", "guest=vm1,debug-threads=on"},
	} {
		args := []string{"qemu-system-x86_64", c.option, c.value}
		before := strings.Clone(c.value)
		got := Redact(args)[2]
		if got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.option, c.value, got, c.want)
		}
		if args[2] != before {
			t.Errorf("%s: the argument list itself was changed", c.option)
		}
		checkRedaction(t, Parser{}, args)
	}
}

func TestRedactCommand(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"lvchange", "-ay", "vg/lv"}, []string{"lvchange", "-ay", "vg/lv"}},
		{[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes-xts-plain64 hunter2 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes-xts-plain64 [redacted] 0 /dev/sda 0"}},
		{[]string{"dmsetup", "create", "c", "--table=0 2048 crypt aes hunter2 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "c", "--table=0 2048 crypt aes [redacted] 0 /dev/sda 0"}},
		{[]string{"dmsetup", "create", "--concise", "c,,,rw,0 2048 crypt aes hunter2 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "--concise", "c,,,rw,0 2048 crypt aes [redacted] 0 /dev/sda 0"}},
		{[]string{"dmsetup", "load", "c", "0", "2048", "crypt", "aes", "hunter2"},
			[]string{"dmsetup", "load", "c", "0", "2048", "crypt", "aes", "[redacted]"}},
		{[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes :32:logon:cryptsetup:x 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes :32:logon:cryptsetup:x 0 /dev/sda 0"}},
		{[]string{"dmsetup", "create", "l", "--table", "0 2048 linear /dev/sda 0"},
			[]string{"dmsetup", "create", "l", "--table", "0 2048 linear /dev/sda 0"}},
		{[]string{"dmsetup", "create", "i", "--table", "0 8 integrity /dev/sda 0 32 J 1 internal_hash:hmac(sha256):hunter2"},
			[]string{"dmsetup", "create", "i", "--table", "0 8 integrity /dev/sda 0 32 J 1 internal_hash:hmac(sha256):[redacted]"}},
		{[]string{"dmsetup", "message", "c", "0", "key", "set", "hunter2"}, []string{"dmsetup", "message", "c", "0", "key", "set", "[redacted]"}},
		{[]string{"dmsetup", "message", "c", "0", "key set hunter2"}, []string{"dmsetup", "message", "c", "0", "key set [redacted]"}},
		{[]string{"cryptsetup", "open", "--key-file", "/run/k", "--key-size=512", "/dev/vg/lv", "x"},
			[]string{"cryptsetup", "open", "--key-file", "/run/k", "--key-size=512", "/dev/vg/lv", "x"}},
		{[]string{"cryptsetup", "open", "--test-passphrase", "/dev/vg/lv"}, []string{"cryptsetup", "open", "--test-passphrase", "/dev/vg/lv"}},
		{[]string{"/sbin/lvm", "vgchange", "-ay", "--config", "x/password=hunter2", "vg"},
			[]string{"/sbin/lvm", "vgchange", "-ay", "--config", "x/password=[redacted]", "vg"}},
		{[]string{"mount", "-t", "cifs", "//h/s", "/mnt", "-o", "rw,username=u,password=hunter2,password2=hunter2"},
			[]string{"mount", "-t", "cifs", "//h/s", "/mnt", "-o", "rw,username=u,password=[redacted],password2=[redacted]"}},
		{[]string{"mount.cifs", "//h/s", "/mnt", "-ouser=u%hunter2,ro"}, []string{"mount.cifs", "//h/s", "/mnt", "-ouser=u%[redacted],ro"}},
		{[]string{"mount", "--options=user=u%hunter2,uid=0", "//h/s"}, []string{"mount", "--options=user=u%[redacted],uid=0", "//h/s"}},
		{[]string{"mount", "-t", "ceph", "m:/", "/mnt", "-o", "name=a,secret=hunter2"}, []string{"mount", "-t", "ceph", "m:/", "/mnt", "-o", "name=a,secret=[redacted]"}},
		{[]string{"mount.fuse", "-o", "ssh_command=sshpass -p hunter2 ssh,ro", "u@h:/"}, []string{"mount.fuse", "-o", "ssh_command=[redacted],ro", "u@h:/"}},
		{[]string{"mount", "-o", "subvol=@,lowerdir=/a:/b", "/dev/vg/lv", "/mnt"}, []string{"mount", "-o", "subvol=@,lowerdir=/a:/b", "/dev/vg/lv", "/mnt"}},
		{[]string{"rbd", "map", "p/i", "--id", "a", "--key", "hunter2", "--keyring", "/etc/k"}, []string{"rbd", "map", "p/i", "--id", "a", "--key", "[redacted]", "--keyring", "/etc/k"}},
		{[]string{"drbdsetup", "new-net", "r", "--shared-secret=hunter2"}, []string{"drbdsetup", "new-net", "r", "--shared-secret=[redacted]"}},
		{[]string{"zfs", "set", "keylocation=https://u:hunter2@h/k", "p/d"}, []string{"zfs", "set", "keylocation=https://[redacted]@h/k", "p/d"}},
		{[]string{"/bin/sh", "-c", "vgchange -ay vg"}, []string{"/bin/sh"}},
		{[]string{"/usr/bin/python3", "agent.py", "/dev/vg/lv"}, []string{"/usr/bin/python3"}},
		{[]string{"agent -p hunter2 --x"}, []string{"agent"}},
		{[]string{"PASSWORD=hunter2"}, []string{"PASSWORD=[redacted]"}},
		{[]string{"/usr/libexec/qemu-kvm", "-append", "hunter2"}, []string{"/usr/libexec/qemu-kvm", "-append", "[redacted]"}},
		{nil, nil},
	} {
		got := RedactCommand(c.args)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, diff)
		}
		if diff := cmp.Diff(got, RedactCommand(got)); diff != "" {
			t.Errorf("%q: RedactCommand changes its own result:\n%s", c.args, diff)
		}
	}
}

// Whoever opens a path under /dev in vain has his command line looked at. None of
// these is a tool of storage, and nothing of theirs is kept but their name.
func TestSecretsOfOtherPrograms(t *testing.T) {
	forms, err := os.ReadFile("testdata/secrets.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(forms)) {
		args := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		if diff := cmp.Diff(args[:1], RedactCommand(args)); diff != "" {
			t.Error(diff)
		}
		args[0] = "/usr/sbin/" + args[0]
		if diff := cmp.Diff(args[:1], RedactCommand(args)); diff != "" {
			t.Error(diff)
		}
	}
}

// An option that is qemu's own makes no guest of a program, for which all of its
// command line would be kept.
func TestLooksAreNoReason(t *testing.T) {
	got := RedactCommand([]string{"backup", "-drive", "x", "-device", "y", "-append", "z", "hunter2"})
	if diff := cmp.Diff([]string{"backup"}, got); diff != "" {
		t.Error(diff)
	}
}
