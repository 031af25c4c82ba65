// Evaluates admission policies without a server: `kube-apiserver evaluate`.
//
// Standard input has a JSON object on each line: policies, bindings and namespaces in `objects`, and `requests` that
// go through Kubernetes' own admission, one after the other. Each line is answered by a line with an answer for each
// request, in order of the input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	admission "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	chain "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
		"k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/discovery"
	untyped "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	known "k8s.io/client-go/kubernetes/scheme"
	openapiclient "k8s.io/client-go/openapi"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"lab/definitions"
)

// How many lines are evaluated at once; each waits most of the time until its policies are in force.
const atOnce = 8

// Admission waits for its policies, though not for ever, and not for the types' definitions.
const (
	attempts = 1000
	pause    = 20 * time.Millisecond
)

var unready = []string{"not yet ready to handle request", "There can be a delay between"}

type line struct {
	Objects  []json.RawMessage `json:"objects"`
	Requests []request         `json:"requests"`
	// Checks the types of the expressions of policies instead, as the controller of their status does.
	Check bool `json:"check,omitempty"`
}

type request struct {
	Object      json.RawMessage `json:"object"`
	OldObject   json.RawMessage `json:"oldObject,omitempty"`
	Operation   string          `json:"operation"`
	Subresource string          `json:"subresource,omitempty"`
	User        string          `json:"user,omitempty"`
	// Whether to send the result through the policies once more.
	Again bool `json:"again,omitempty"`
}

type answer struct {
	Allowed bool   `json:"allowed"`
	Message string `json:"message,omitempty"`
	// Whether a policy that changes objects failed.
	Mutating bool              `json:"mutating,omitempty"`
	Object   runtime.Object    `json:"object,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
	Audit    map[string]string `json:"audit,omitempty"`
	// Microseconds for the whole request.
	Took int64 `json:"took"`
}

// A client whose discovery serves the types' definitions; informers also ask the fake itself what it can do.
type client struct {
	*fake.Clientset
	served served
}
type served struct {
	discovery.DiscoveryInterface
	document document
}
type document []byte

func (c client) Discovery() discovery.DiscoveryInterface { return c.served }
func (s served) OpenAPIV3() openapiclient.Client         { return s.document }
func (d document) Schema(string) ([]byte, error)         { return d, nil }
func (d document) ServerRelativeURL() string             { return "/static" }
func (d document) Paths() (map[string]openapiclient.GroupVersion, error) {
	return map[string]openapiclient.GroupVersion{"api/v1": d}, nil
}

type warnings struct {
	lock sync.Mutex
	all  []string
}

func (w *warnings) AddWarning(_, text string) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.all = append(w.all, text)
}

// Attributes that keep the annotations for the audit log.
type notes struct {
	chain.Attributes
	all map[string]string
}

func (n notes) AddAnnotation(key, value string) error {
	n.all[key] = value
	return nil
}

func (n notes) AddAnnotationWithLevel(key, value string, _ audit.Level) error {
	return n.AddAnnotation(key, value)
}

func evaluate() {
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	definitions := openAPI()
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	in := bufio.NewReader(os.Stdin)
	// Answers are written in the order of the lines.
	queue := make(chan chan []answer, atOnce)
	done := make(chan struct{})
	go func() {
		for answers := range queue {
			must(out.Encode(<-answers))
		}
		close(done)
	}()
	for {
		text, err := in.ReadBytes('\n')
		if len(text) > 1 {
			var it line
			must(json.Unmarshal(text, &it))
			answers := make(chan []answer, 1)
			queue <- answers
			go func() { answers <- it.answers(definitions) }()
		}
		if err == io.EOF {
			break
		}
		must(err)
	}
	close(queue)
	<-done
}

func openAPI() document {
	namer := openapi.NewDefinitionNamer(scheme)
	config := &common.OpenAPIV3Config{GetDefinitions: definitions.GetOpenAPIDefinitions, GetDefinitionName: namer.GetDefinitionName}
	var names []string
	for name := range definitions.GetOpenAPIDefinitions(func(string) spec.Ref { return spec.Ref{} }) {
		// Pods, and what they consist of.
		if strings.HasPrefix(name, "io.k8s.api.core.") || strings.HasPrefix(name, "io.k8s.apimachinery.") {
			names = append(names, name)
		}
	}
	schemas, err := builder3.BuildOpenAPIDefinitionsForResources(config, names...)
	must(err)
	text, err := json.Marshal(&spec3.OpenAPI{Version: "3.0", Components: &spec3.Components{Schemas: schemas}})
	must(err)
	return text
}

func decode(text json.RawMessage) (runtime.Object, schema.GroupVersionKind) {
	object, kind, err := codecs.UniversalDeserializer().Decode(text, nil, nil)
	must(err)
	complete(object)
	return object, *kind
}

func (l line) answers(definitions document) []answer {
	if l.Check {
		return []answer{l.check()}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var objects []runtime.Object
	namespaces := map[string]bool{}
	for _, text := range l.Objects {
		object, _ := decode(text)
		if it, ok := object.(*core.Namespace); ok {
			namespaces[it.Name] = true
		}
		objects = append(objects, object)
	}
	for _, request := range l.Requests {
		object, _ := decode(request.Object)
		it, err := meta.Accessor(object)
		must(err)
		if name := it.GetNamespace(); !namespaces[name] {
			namespaces[name] = true
			namespace := &core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
			complete(namespace)
			objects = append(objects, namespace)
		}
	}
	plugins := policies(ctx, definitions, objects)
	var all []answer
	for _, request := range l.Requests {
		it := request.answerInTime(ctx, plugins)
		if request.Again && it.Allowed {
			text, err := json.Marshal(it.Object)
			must(err)
			request.Object = text
			it = request.answer(ctx, plugins)
		}
		all = append(all, it)
	}
	return all
}

// The warnings about types in the ValidatingAdmissionPolicies.
func (l line) check() (it answer) {
	checker := validating.TypeChecker{
		SchemaResolver: resolver.NewDefinitionsSchemaResolver(definitions.GetOpenAPIDefinitions, scheme),
		RestMapper:     mapper(),
	}
	for _, text := range l.Objects {
		object, _ := decode(text)
		policy, ok := object.(*admission.ValidatingAdmissionPolicy)
		if !ok {
			continue
		}
		for _, found := range checker.Check(policy) {
			it.Warnings = append(it.Warnings, found.FieldRef+": "+found.Warning)
		}
	}
	it.Allowed = len(it.Warnings) == 0
	return it
}

func mapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(scheme.PrioritizedVersionsAllGroups())
	for kind := range scheme.AllKnownTypes() {
		if kind.Version != runtime.APIVersionInternal {
			mapper.Add(kind, meta.RESTScopeNamespace)
		}
	}
	return mapper
}

// The admission chain of an API server that stores these objects.
func policies(ctx context.Context, definitions document, objects []runtime.Object) chain.Interface {
	fakes := fake.NewSimpleClientset(objects...)
	api := client{fakes, served{fakes.Discovery(), definitions}}
	informed := informers.NewSharedInformerFactory(api, 0)
	plugins := chain.NewPlugins()
	mutating.Register(plugins)
	validating.Register(plugins)
	with := initializer.New(api, untyped.NewSimpleDynamicClient(known.Scheme, objects...), informed,
		authorizerfactory.NewAlwaysAllowAuthorizer(), feature.DefaultFeatureGate,
		compatibility.DefaultBuildEffectiveVersion(), ctx.Done(), mapper())
	all, err := plugins.NewFromPlugins([]string{mutating.PluginName, validating.PluginName}, unconfigured{},
		chain.PluginInitializers{with}, nil)
	must(err)
	informed.Start(ctx.Done())
	informed.WaitForCacheSync(ctx.Done())
	return all
}

func (r request) answerInTime(ctx context.Context, plugins chain.Interface) answer {
	var it answer
	for range attempts {
		it = r.answer(ctx, plugins)
		ready := true
		for _, text := range unready {
			ready = ready && !strings.Contains(it.Message, text)
		}
		if ready {
			break
		}
		time.Sleep(pause)
	}
	return it
}

func (r request) answer(ctx context.Context, plugins chain.Interface) (it answer) {
	object, kind := decode(r.Object)
	var old runtime.Object
	if r.OldObject != nil {
		old, _ = decode(r.OldObject)
	}
	// The server hands an object without a kind to admission.
	object.GetObjectKind().SetGroupVersionKind(kind.GroupKind().WithVersion(""))
	named, err := meta.Accessor(object)
	must(err)
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	var options runtime.Object = &metav1.CreateOptions{}
	if r.Operation == string(chain.Update) {
		options = &metav1.UpdateOptions{}
	}
	name := r.User
	if name == "" {
		name = "admin"
	}
	attributes := chain.NewAttributesRecord(object, old, kind, named.GetNamespace(), named.GetName(), plural, r.Subresource,
		chain.Operation(r.Operation), options, false, &user.DefaultInfo{Name: name, Groups: []string{"system:authenticated"}})
	noted := notes{attributes, map[string]string{}}
	heard := &warnings{}
	ctx = warning.WithWarningRecorder(ctx, heard)
	interfaces := chain.NewObjectInterfacesFromScheme(scheme)
	start := time.Now()
	err = plugins.(chain.MutationInterface).Admit(ctx, noted, interfaces)
	it.Mutating = err != nil
	if err == nil {
		err = plugins.(chain.ValidationInterface).Validate(ctx, noted, interfaces)
	}
	it.Took = time.Since(start).Microseconds()
	it.Allowed, it.Warnings, it.Audit = err == nil, heard.all, noted.all
	if err != nil {
		it.Message = err.Error()
	}
	object.GetObjectKind().SetGroupVersionKind(kind)
	it.Object = object
	return it
}

type unconfigured struct{}

func (unconfigured) ConfigFor(string) (io.Reader, error) { return nil, nil }

// The defaults of policies and bindings.
func completePolicy(object runtime.Object) {
	everything := func(match *admission.MatchResources) {
		if match == nil {
			return
		}
		policy, scope := admission.Equivalent, admission.AllScopes
		if match.MatchPolicy == nil {
			match.MatchPolicy = &policy
		}
		for _, selector := range []**metav1.LabelSelector{&match.NamespaceSelector, &match.ObjectSelector} {
			if *selector == nil {
				*selector = &metav1.LabelSelector{}
			}
		}
		for i := range match.ResourceRules {
			if match.ResourceRules[i].Scope == nil {
				match.ResourceRules[i].Scope = &scope
			}
		}
	}
	switch it := object.(type) {
	case *admission.MutatingAdmissionPolicy:
		everything(it.Spec.MatchConstraints)
	case *admission.MutatingAdmissionPolicyBinding:
		everything(it.Spec.MatchResources)
	case *admission.ValidatingAdmissionPolicy:
		everything(it.Spec.MatchConstraints)
	case *admission.ValidatingAdmissionPolicyBinding:
		everything(it.Spec.MatchResources)
	default:
		if _, err := meta.Accessor(object); err != nil {
			must(fmt.Errorf("%T is not an object: %w", object, err))
		}
	}
}
