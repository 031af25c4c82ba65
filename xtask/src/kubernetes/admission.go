// An API server for tests of admission, built from Kubernetes' own libraries.
//
// Debian packages the libraries of current Kubernetes versions and not the server. This program serves Pods,
// workloads and webhook configurations with the generic API server: HTTP, storage in etcd, server-side apply, and the
// admission chain are Kubernetes' own code. It takes the flags of kube-apiserver that it needs and ignores the others.
// `evaluate` needs no server: see evaluation.go. It lacks RBAC, and the validation and defaults of k8s.io/kubernetes, except defaults that admission relies on.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	admission "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	webhooks "k8s.io/apiserver/pkg/admission/plugin/webhook/initializer"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/generic"
	registry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/version"

	"lab/definitions"
)

// A kind of object that is served.
type resource struct {
	group, plural, singular string
	namespaced              bool
	object, list            runtime.Object
	subresources            []string
}

var resources = []resource{
	{"", "namespaces", "namespace", false, &core.Namespace{}, &core.NamespaceList{}, nil},
	{"", "pods", "pod", true, &core.Pod{}, &core.PodList{}, []string{"ephemeralcontainers", "resize", "status"}},
	{"", "replicationcontrollers", "replicationcontroller", true, &core.ReplicationController{}, &core.ReplicationControllerList{}, nil},
	{"", "configmaps", "configmap", true, &core.ConfigMap{}, &core.ConfigMapList{}, nil},
	{"apps", "daemonsets", "daemonset", true, &apps.DaemonSet{}, &apps.DaemonSetList{}, nil},
	{"apps", "deployments", "deployment", true, &apps.Deployment{}, &apps.DeploymentList{}, nil},
	{"apps", "replicasets", "replicaset", true, &apps.ReplicaSet{}, &apps.ReplicaSetList{}, nil},
	{"apps", "statefulsets", "statefulset", true, &apps.StatefulSet{}, &apps.StatefulSetList{}, nil},
	{"batch", "cronjobs", "cronjob", true, &batch.CronJob{}, &batch.CronJobList{}, nil},
	{"batch", "jobs", "job", true, &batch.Job{}, &batch.JobList{}, nil},
	{admission.GroupName, "mutatingwebhookconfigurations", "mutatingwebhookconfiguration", false, &admission.MutatingWebhookConfiguration{}, &admission.MutatingWebhookConfigurationList{}, nil},
	{admission.GroupName, "validatingwebhookconfigurations", "validatingwebhookconfiguration", false, &admission.ValidatingWebhookConfiguration{}, &admission.ValidatingWebhookConfigurationList{}, nil},
	{admission.GroupName, "mutatingadmissionpolicies", "mutatingadmissionpolicy", false, &admission.MutatingAdmissionPolicy{}, &admission.MutatingAdmissionPolicyList{}, nil},
	{admission.GroupName, "mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding", false, &admission.MutatingAdmissionPolicyBinding{}, &admission.MutatingAdmissionPolicyBindingList{}, nil},
	{admission.GroupName, "validatingadmissionpolicies", "validatingadmissionpolicy", false, &admission.ValidatingAdmissionPolicy{}, &admission.ValidatingAdmissionPolicyList{}, nil},
	{admission.GroupName, "validatingadmissionpolicybindings", "validatingadmissionpolicybinding", false, &admission.ValidatingAdmissionPolicyBinding{}, &admission.ValidatingAdmissionPolicyBindingList{}, nil},
}

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func init() {
	must(core.AddToScheme(scheme))
	must(apps.AddToScheme(scheme))
	must(batch.AddToScheme(scheme))
	must(admission.AddToScheme(scheme))
	// Stored and admitted objects are of internal versions, whose types are in k8s.io/kubernetes. Here the published
	// types are the internal ones, too.
	for _, r := range resources {
		for _, object := range []runtime.Object{r.object, r.list} {
			internal := schema.GroupVersion{Group: r.group, Version: runtime.APIVersionInternal}
			scheme.AddKnownTypes(internal, object)
			must(scheme.AddConversionFunc(object, object, clone))
		}
	}
	v1 := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(scheme, v1)
	scheme.AddUnversionedTypes(v1, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
}

func clone(from, to interface{}, _ conversion.Scope) error {
	copied := from.(runtime.Object).DeepCopyObject()
	reflect.ValueOf(to).Elem().Set(reflect.ValueOf(copied).Elem())
	return nil
}

// Stores objects as they are, with the defaults that admission relies on.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	namespaced bool
}

func (s strategy) NamespaceScoped() bool                                        { return s.namespaced }
func (strategy) AllowCreateOnUpdate() bool                                      { return false }
func (strategy) AllowUnconditionalUpdate() bool                                 { return true }
func (strategy) Canonicalize(runtime.Object)                                    {}
func (strategy) PrepareForCreate(_ context.Context, object runtime.Object)      { complete(object) }
func (strategy) PrepareForUpdate(_ context.Context, object, _ runtime.Object)   { complete(object) }
func (strategy) Validate(context.Context, runtime.Object) field.ErrorList       { return nil }
func (strategy) WarningsOnCreate(context.Context, runtime.Object) []string      { return nil }
func (strategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}
func (strategy) ValidateUpdate(context.Context, runtime.Object, runtime.Object) field.ErrorList {
	return nil
}

// A selector that is not given selects everything, and a namespace is labelled with its name.
func complete(object runtime.Object) {
	everything := func(selectors ...**metav1.LabelSelector) {
		for _, selector := range selectors {
			if *selector == nil {
				*selector = &metav1.LabelSelector{}
			}
		}
	}
	switch it := object.(type) {
	case *core.Namespace:
		if it.Labels == nil {
			it.Labels = map[string]string{}
		}
		it.Labels[core.LabelMetadataName] = it.Name
	case *admission.MutatingWebhookConfiguration:
		for i := range it.Webhooks {
			everything(&it.Webhooks[i].NamespaceSelector, &it.Webhooks[i].ObjectSelector)
		}
	case *admission.ValidatingWebhookConfiguration:
		for i := range it.Webhooks {
			everything(&it.Webhooks[i].NamespaceSelector, &it.Webhooks[i].ObjectSelector)
		}
	default:
		completePolicy(object)
	}
}

func attributes(object runtime.Object) (labels.Set, fields.Set, error) {
	it, err := meta.Accessor(object)
	if err != nil {
		return nil, nil, err
	}
	return it.GetLabels(), fields.Set{"metadata.name": it.GetName(), "metadata.namespace": it.GetNamespace()}, nil
}

func (r resource) store(getter generic.RESTOptionsGetter) *registry.Store {
	name := schema.GroupResource{Group: r.group, Resource: r.plural}
	rules := strategy{scheme, names.SimpleNameGenerator, r.namespaced}
	store := &registry.Store{
		NewFunc:                   r.object.DeepCopyObject,
		NewListFunc:               r.list.DeepCopyObject,
		DefaultQualifiedResource:  name,
		SingularQualifiedResource: schema.GroupResource{Group: r.group, Resource: r.singular},
		CreateStrategy:            rules,
		UpdateStrategy:            rules,
		DeleteStrategy:            rules,
		TableConvertor:            rest.NewDefaultTableConvertor(name),
		PredicateFunc: func(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
			return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: attributes}
		},
	}
	must(store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: getter, AttrFunc: attributes}))
	return store
}

// A subresource that takes the whole object, as those of Pods do.
type part struct{ whole *registry.Store }

func (p part) New() runtime.Object { return p.whole.New() }
func (part) Destroy()              {}
func (p part) Get(ctx context.Context, name string, how *metav1.GetOptions) (runtime.Object, error) {
	return p.whole.Get(ctx, name, how)
}
func (p part) Update(ctx context.Context, name string, object rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, how *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return p.whole.Update(ctx, name, object, create, update, false, how)
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "evaluate" {
		evaluate()
		return
	}
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ExitOnError)
	flags.ParseErrorsWhitelist.UnknownFlags = true
	codec := codecs.LegacyCodec(scheme.PrioritizedVersionsAllGroups()...)
	etcd := options.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", codec))
	serving := options.NewSecureServingOptions().WithLoopback()
	clients := options.ClientCertAuthenticationOptions{}
	etcd.AddFlags(flags)
	serving.AddFlags(flags)
	clients.AddFlags(flags)
	show := flags.Bool("version", false, "print the version of Kubernetes and exit")
	must(flags.Parse(os.Args[1:]))
	if *show {
		fmt.Println("Kubernetes", version.Get().GitVersion)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	config := server.NewRecommendedConfig(codecs)
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	namer := openapi.NewDefinitionNamer(scheme)
	config.OpenAPIConfig = server.DefaultOpenAPIConfig(definitions.GetOpenAPIDefinitions, namer)
	config.OpenAPIConfig.Info.Title = "Kubernetes"
	config.OpenAPIV3Config = server.DefaultOpenAPIV3Config(definitions.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config.Info.Title = "Kubernetes"
	must(serving.ApplyTo(&config.SecureServing, &config.LoopbackClientConfig))
	authority, err := clients.GetClientCAContentProvider()
	must(err)
	must(config.Authentication.ApplyClientCert(authority, config.SecureServing))
	config.Authentication.Authenticator = group.NewAuthenticatedGroupAdder(x509.NewDynamic(authority.VerifyOptions, x509.CommonNameUserConversion))
	config.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	must(etcd.ApplyTo(&config.Config))

	config.ClientConfig = config.LoopbackClientConfig
	client, err := kubernetes.NewForConfig(config.ClientConfig)
	must(err)
	untyped, err := dynamic.NewForConfig(config.ClientConfig)
	must(err)
	config.SharedInformerFactory = informers.NewSharedInformerFactory(client, 10*time.Minute)
	hooks := webhooks.NewPluginInitializer(nil, webhook.NewDefaultServiceResolver())
	must(options.NewAdmissionOptions().ApplyTo(&config.Config, config.SharedInformerFactory, client, untyped, feature.DefaultFeatureGate, config.EffectiveVersion, hooks))
	api, err := config.Complete().New("admission", server.NewEmptyDelegate())
	must(err)

	parameters := runtime.NewParameterCodec(scheme)
	groups := map[string]*server.APIGroupInfo{}
	for _, r := range resources {
		if groups[r.group] == nil {
			info := server.NewDefaultAPIGroupInfo(r.group, scheme, parameters, codecs)
			info.VersionedResourcesStorageMap["v1"] = map[string]rest.Storage{}
			groups[r.group] = &info
		}
		store := r.store(config.RESTOptionsGetter)
		served := groups[r.group].VersionedResourcesStorageMap["v1"]
		served[r.plural] = store
		for _, name := range r.subresources {
			served[r.plural+"/"+name] = part{store}
		}
	}
	for name, info := range groups {
		if name == "" {
			must(api.InstallLegacyAPIGroup(server.DefaultLegacyAPIPrefix, info))
		} else {
			must(api.InstallAPIGroup(info))
		}
	}
	api.AddPostStartHookOrDie("namespaces", func(hook server.PostStartHookContext) error {
		for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
			namespace := &core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
			for {
				_, err := client.CoreV1().Namespaces().Create(hook, namespace, metav1.CreateOptions{})
				if err == nil || apierrors.IsAlreadyExists(err) {
					break
				}
				select {
				case <-hook.Done():
					return hook.Err()
				case <-time.After(100 * time.Millisecond):
				}
			}
		}
		return nil
	})
	must(api.PrepareRun().RunWithContext(ctx))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
