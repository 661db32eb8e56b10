import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginsLoader;

/** Runs a node of Elasticsearch: arguments are its home, its data directory and its port. */
public class KeyValueNode {
    public static void main(String[] arguments) throws Exception {
        LogConfigurator.configureESLogging();
        Settings settings = Settings.builder()
            .put("path.home", arguments[0])
            .put("path.data", arguments[1])
            .put("path.logs", arguments[1])
            .put("network.host", "127.0.0.1")
            .put("http.port", arguments[2])
            .put("transport.port", "0")
            .put("discovery.type", "single-node")
            .put("cluster.name", "keyvalue")
            .put("node.name", "keyvalue")
            .put("cluster.routing.allocation.disk.threshold_enabled", "false")
            .build();
        Environment environment = new Environment(settings, Path.of(arguments[0], "config"));
        Set<PluginBundle> modules = PluginsLoader.loadModulesBundles(environment.modulesDir());
        Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules, Set.of(), Map.of(), false));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        node.start();
        new CountDownLatch(1).await();
    }
}
