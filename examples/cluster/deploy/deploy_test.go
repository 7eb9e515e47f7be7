package deploy

import (
	"crypto/tls"
	"crypto/x509"
	"debug/elf"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// shutdown is what a node takes at most after -drain.
const shutdown = 3 * time.Second

// manifest is kubernetes.yaml.
type manifest struct {
	services map[string]*core.Service
	set      apps.StatefulSet
	budget   policy.PodDisruptionBudget
}

// decode reads an object. A field that does not exist is an error.
func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%v, in:\n%s", err, text)
	}
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	m := manifest{services: make(map[string]*core.Service)}
	for object := range strings.SplitSeq(read(t, "kubernetes.yaml"), "\n---\n") {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(object), &head); err != nil {
			t.Fatal(err)
		}
		switch head.APIVersion + " " + head.Kind {
		case "v1 Service":
			s := new(core.Service)
			decode(t, object, s)
			m.services[s.Name] = s
		case "apps/v1 StatefulSet":
			decode(t, object, &m.set)
		case "policy/v1 PodDisruptionBudget":
			decode(t, object, &m.budget)
		default:
			t.Fatalf("%s %s is not expected", head.APIVersion, head.Kind)
		}
	}
	return m
}

// The objects of the manifest fit together: selectors, names, ports, and times.
func TestKubernetes(t *testing.T) {
	m := readManifest(t)
	pod := m.set.Spec.Template
	container := pod.Spec.Containers[0]
	ports := make(map[string]int32)
	for _, p := range container.Ports {
		ports[p.Name] = p.ContainerPort
	}
	selectors := map[string]map[string]string{"the StatefulSet": m.set.Spec.Selector.MatchLabels, "the budget": m.budget.Spec.Selector.MatchLabels}
	for name, s := range m.services {
		selectors["Service "+name] = s.Spec.Selector
		for _, p := range s.Spec.Ports {
			if ports[p.TargetPort.String()] == 0 {
				t.Errorf("Service %s leads to port %s, which the container has not", name, p.TargetPort.String())
			}
		}
	}
	for name, labels := range selectors {
		if len(labels) == 0 || !maps.Equal(labels, pod.Labels) {
			t.Errorf("%s selects %v, and nodes are %v", name, labels, pod.Labels)
		}
	}
	nodes := m.services[m.set.Spec.ServiceName]
	if nodes == nil || nodes.Spec.ClusterIP != core.ClusterIPNone || !nodes.Spec.PublishNotReadyAddresses {
		t.Errorf("the Service of the StatefulSet, %q, gives nodes no names before they are ready", m.set.Spec.ServiceName)
	}
	for path, probe := range map[string]*core.Probe{"/readyz": container.ReadinessProbe, "/healthz": container.LivenessProbe} {
		if probe.HTTPGet.Path != path || ports[probe.HTTPGet.Port.String()] == 0 {
			t.Errorf("a probe asks %s at port %s, want %s", probe.HTTPGet.Path, probe.HTTPGet.Port.String(), path)
		}
	}
	flags := flagsOf(container.Args)
	for flag, port := range map[string]string{"-addr": "lines", "-web": "web", "-cluster-listen": "routes", "-observe": "observe"} {
		if _, got, _ := strings.Cut(flags[flag], ":"); got == "" || got != number(ports[port]) {
			t.Errorf("%s is %q, and port %s is %d", flag, flags[flag], port, ports[port])
		}
	}
	routes := strings.Split(flags["-cluster-routes"], ",")
	for i := range *m.set.Spec.Replicas {
		want := m.set.Name + "-" + number(i) + "." + m.set.Spec.ServiceName + ":" + number(ports["routes"])
		if !slices.Contains(routes, want) {
			t.Errorf("no route to %s", want)
		}
	}
	need := time.Duration(container.Lifecycle.PreStop.Sleep.Seconds)*time.Second + duration(t, flags["-drain"]) + shutdown
	if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < need {
		t.Errorf("a node is killed after %v, and needs %v", grace, need)
	}
}

// The Secret has what the manifest takes from it, and its certificate is good for each node, as server and as client.
func TestSecret(t *testing.T) {
	out, err := exec.Command("./secret.sh").Output()
	if err != nil {
		t.Fatal(err)
	}
	var secret core.Secret
	decode(t, string(out), &secret)
	m := readManifest(t)
	container := m.set.Spec.Template.Spec.Containers[0]
	for _, e := range container.Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			if ref := e.ValueFrom.SecretKeyRef; ref.Name != secret.Name || len(secret.StringData[ref.Key]) < 32 {
				t.Errorf("%s is %s of %s, which is %q", e.Name, ref.Key, ref.Name, secret.StringData[ref.Key])
			}
		}
	}
	volume := m.set.Spec.Template.Spec.Volumes[0].Secret
	if volume.SecretName != secret.Name {
		t.Errorf("the volume is of Secret %s, want %s", volume.SecretName, secret.Name)
	}
	files := make(map[string][]byte)
	for _, item := range volume.Items {
		files[container.VolumeMounts[0].MountPath+"/"+item.Path] = secret.Data[item.Key]
	}
	flags := flagsOf(container.Args)
	pair, err := tls.X509KeyPair(files[flags["-cluster-cert"]], files[flags["-cluster-key"]])
	if err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(files[flags["-cluster-ca"]]) {
		t.Fatal("no certificate of an authority")
	}
	for route := range strings.SplitSeq(flags["-cluster-routes"], ",") {
		host, _, _ := strings.Cut(route, ":")
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: authority, DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Error(err)
			}
		}
	}
}

// composed is compose.yaml, held to its schema.
func composed(t *testing.T) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: []byte(read(t, "compose.yaml"))}},
		Environment: types.Mapping{"NATS_PASSWORD": "secret"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The nodes of the compose file use its NATS, have the time that they need to end, and are those that the balancer leads to.
func TestCompose(t *testing.T) {
	p := composed(t)
	balancer := read(t, "haproxy.cfg")
	nodes := 0
	for name, s := range p.Services {
		if s.Build == nil {
			continue
		}
		nodes++
		if got := *s.Environment["CHAT_NATS"]; got != "nats://chat:secret@nats:4222" {
			t.Errorf("%s uses %s", name, got)
		}
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
		flags := flagsOf(s.Command)
		if need := duration(t, flags["-drain"]) + shutdown; time.Duration(*s.StopGracePeriod) < need {
			t.Errorf("%s is killed after %v, and needs %v", name, s.StopGracePeriod, need)
		}
		for _, flag := range []string{"-addr", "-web"} {
			if line := "server " + name + " " + name + flags[flag] + "\n"; !strings.Contains(balancer, line) {
				t.Errorf("haproxy.cfg has no %q", line)
			}
		}
		if port := strings.TrimPrefix(flags["-observe"], ":"); !strings.Contains(balancer, "check port "+port+" ") {
			t.Errorf("haproxy.cfg does not check port %s", port)
		}
	}
	if nodes != 3 {
		t.Errorf("%d nodes", nodes)
	}
	_, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: []byte(read(t, "compose.yaml"))}},
	})
	if err == nil || !strings.Contains(err.Error(), "NATS_PASSWORD") {
		t.Errorf("without a password: %v", err)
	}
}

// The command of the Dockerfile makes a program that needs no library, which has the flags and variables that the two files give it.
func TestProgramHasTheFlags(t *testing.T) {
	command := regexp.MustCompile(`(?m)^RUN (.* go build .*) -o /chat (\S+)$`).FindStringSubmatch(read(t, "Dockerfile"))
	if command == nil {
		t.Fatal("the Dockerfile builds no program")
	}
	program := filepath.Join(t.TempDir(), "chat")
	build := exec.Command("sh", "-c", command[1]+" -o "+program+" "+command[2])
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "GOWORK=") // of the repository, in which this module is not
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v, %v", libraries, err)
	}

	container := readManifest(t).set.Spec.Template.Spec.Containers[0]
	uses := map[string][]string{"kubernetes.yaml": container.Args}
	var variables []string
	for _, e := range container.Env {
		variables = append(variables, e.Name)
	}
	for name, s := range composed(t).Services {
		if s.Build != nil {
			uses["compose.yaml, "+name] = s.Command
			variables = slices.AppendSeq(variables, maps.Keys(s.Environment))
		}
	}
	// Flags are read up to the first one that is wrong, and -h ends with the list of all.
	var help string
	for name, args := range uses {
		out, err := exec.Command(program, append(slices.Clone(args), "-h")...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		help = string(out)
	}
	found := 0
	for _, v := range variables {
		name, ours := strings.CutPrefix(v, "CHAT_")
		if !ours {
			continue
		}
		found++
		if flag := "-" + strings.ReplaceAll(strings.ToLower(name), "_", "-"); !regexp.MustCompile(`(?m)^  ` + flag + ` `).MatchString(help) {
			t.Errorf("%s is for %s, which is no flag", v, flag)
		}
	}
	if found == 0 {
		t.Error("no variable is set")
	}
	if out, err := exec.Command(program, "-no-such-flag", "-h").CombinedOutput(); err == nil {
		t.Errorf("any flag will do: %s", out)
	}
}

// A field that is misspelt is noticed.
func TestStrict(t *testing.T) {
	text := read(t, "kubernetes.yaml")
	_, set, _ := strings.Cut(text, "kind: StatefulSet")
	set = "apiVersion: apps/v1\nkind: StatefulSet" + set
	wrong := strings.Replace(set, "readinessProbe:", "readynessProbe:", 1)
	if wrong == set {
		t.Fatal("nothing was changed")
	}
	if err := yaml.UnmarshalStrict([]byte(wrong), new(apps.StatefulSet)); err == nil || !strings.Contains(err.Error(), "readynessProbe") {
		t.Errorf("%v, want an error that names the field", err)
	}
}

// flagsOf returns the flags of arguments, each as -name=value.
func flagsOf(args []string) map[string]string {
	flags := make(map[string]string)
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		flags[name] = value
	}
	return flags
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func number(n int32) string { return strconv.Itoa(int(n)) }

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
